-- The program of nbody.flow.
local STEPS = 20000
local sqrt = math.sqrt
local m, x, y, z, u, v, w
local function prepare()
  m = { 39.47841760435743, 0.03769367487038949, 0.011286326131968767, 0.0017237240570597112, 0.0020336868699246304 }
  x = { 0.0, 4.84143144246472090, 8.34336671824457987, 12.8943695621391310, 15.3796971148509165 }
  y = { 0.0, -1.16032004402742839, 4.12479856412430479, -15.1111514016986312, -25.9193146099879641 }
  z = { 0.0, -0.103622044471123109, -0.403523417114321381, -0.223307578892655734, 0.179258772950371181 }
  u = { 0.0, 0.606326392995832, -1.01077434617879236, 1.08279100644153536, 0.979090732243897976 }
  v = { 0.0, 2.81198684491626016, 1.82566237123041186, 0.868713018169608219, 0.594698998647676060 }
  w = { 0.0, -0.02521836165988763, 0.00841576137658415351, -0.0108326374013636358, -0.0347559555078103857 }
  for _, c in ipairs { u, v, w } do
    local momentum = 0.0
    for i = 1, 5 do momentum = momentum + c[i] * m[i] end
    c[1] = -momentum / 39.47841760435743
  end
end
local function advance(m, x, y, z, u, v, w, dt)
  for i = 1, 5 do
    for j = i + 1, 5 do
      local dx, dy, dz = x[i] - x[j], y[i] - y[j], z[i] - z[j]
      local square = dx * dx + dy * dy + dz * dz
      local force = dt / (square * sqrt(square))
      u[i] = u[i] - dx * m[j] * force
      v[i] = v[i] - dy * m[j] * force
      w[i] = w[i] - dz * m[j] * force
      u[j] = u[j] + dx * m[i] * force
      v[j] = v[j] + dy * m[i] * force
      w[j] = w[j] + dz * m[i] * force
    end
  end
  for i = 1, 5 do
    x[i] = x[i] + dt * u[i]
    y[i] = y[i] + dt * v[i]
    z[i] = z[i] + dt * w[i]
  end
end
report(STEPS, function()
  prepare()
  for k = 1, STEPS do advance(m, x, y, z, u, v, w, 0.01) end
  return x[1]
end)
