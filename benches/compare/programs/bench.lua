-- What the Lua programs share: a stopwatch.
function report(units, f)
  local best, result = math.huge, nil
  for _ = 1, 3 do
    local start = os.clock()
    result = f()
    best = math.min(best, os.clock() - start)
  end
  print(string.format("%.6f %.9g", best * 1e9 / units, result))
end
