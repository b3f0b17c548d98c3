-- The interpreter of examples/bytecode.flow: opcodes are strings, told apart one after the other.
local square = { 'mov_a_r0', 'mov_a_r1', 'mov_r0_a', 'decr_a', 'mov_a_r0', 'mov_r2_a', 'add_r1_to_a', 'mov_a_r2', 'mov_r0_a',
  'jump_if_a', 2, 'mov_r2_a', 'return_a' }
local function interpret(code, a)
  local r0, r1, r2, pc = 0, 0, 0, 0
  while true do
    local op = code[pc + 1]
    pc = pc + 1
    if op == 'jump_if_a' then
      local target = code[pc + 1]
      pc = pc + 1
      if a ~= 0 then pc = target end
    elseif op == 'mov_a_r0' then r0 = a
    elseif op == 'mov_a_r1' then r1 = a
    elseif op == 'mov_a_r2' then r2 = a
    elseif op == 'mov_r0_a' then a = r0
    elseif op == 'mov_r1_a' then a = r1
    elseif op == 'mov_r2_a' then a = r2
    elseif op == 'add_r0_to_a' then a = a + r0
    elseif op == 'add_r1_to_a' then a = a + r1
    elseif op == 'add_r2_to_a' then a = a + r2
    elseif op == 'decr_a' then a = a - 1
    elseif op == 'return_a' then return a
    else error(op) end
  end
end
report(3e5, function() return interpret(square, 300000) end)
