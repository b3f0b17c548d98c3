report(3e6, function()
  local a = 3000000
  local r0, r1, r2 = a, a, 0
  repeat
    a = a - 1
    r0 = a
    a = r2
    a = a + r1
    r2 = a
    a = r0
  until a == 0
  return r2
end)
