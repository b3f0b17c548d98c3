local n = 100
local plate = {}
local function prepare()
  for i = 1, n do
    plate[i] = {}
    for j = 1, n do plate[i][j] = i == 1 and 1.0 or 0.0 end
  end
end
local function sweep()
  for i = 2, n - 1 do
    local above, row, below = plate[i - 1], plate[i], plate[i + 1]
    for j = 2, n - 1 do row[j] = (row[j - 1] + row[j + 1] + above[j] + below[j]) * 0.25 end
  end
end
prepare()
report(200 * (n - 2) * (n - 2), function()
  for k = 1, 200 do sweep() end
  return plate[2][2]
end)
