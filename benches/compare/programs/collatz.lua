report(2864133, function()
  local steps = 0
  for start = 1, 29999 do
    local n = start
    while n ~= 1 do
      if n % 2 == 0 then n = n * 0.5 else n = 3 * n + 1 end
      steps = steps + 1
    end
  end
  return steps
end)
