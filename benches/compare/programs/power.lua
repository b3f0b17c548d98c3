report(1e7, function()
  local res, x, y = 1, 1, 10000000
  repeat
    res = res * x
    y = y - 1
  until y == 0
  return res
end)
