-- The program of examples/deltablue.flow.
local REQUIRED, PREFERRED, STRONG_DEFAULT, NORMAL, WEAKEST = 0, 2, 3, 4, 6
local NONE, FORWARD, BACKWARD = 0, 1, 2
local floor, max = math.floor, math.max
local last_mark = 0
local function new_mark()
  last_mark = last_mark + 1
  return last_mark
end
local function variable(value) return { value = value, mark = 0, strength = WEAKEST, stay = true } end
local function constraint(kind, strength, a, b, scale, offset)
  return { kind = kind, strength = strength, a = a, b = b, scale = scale, offset = offset, direction = NONE }
end
local function input(c) if c.direction == FORWARD then return c.a end return c.b end
local function output(c) if c.direction == FORWARD and c.b then return c.b end return c.a end
local add_incrementally, remove_incrementally

local function choose_direction(c, mark)
  local a, b = c.a, c.b
  c.direction = NONE
  if not b then
    if a.mark ~= mark and c.strength < a.strength then c.direction = FORWARD end
  elseif a.mark == mark then
    if b.mark ~= mark and c.strength < b.strength then c.direction = FORWARD end
  elseif b.mark == mark then
    if c.strength < a.strength then c.direction = BACKWARD end
  elseif a.strength > b.strength then
    if c.strength < a.strength then c.direction = BACKWARD end
  elseif c.strength < b.strength then
    c.direction = FORWARD
  end
end
local function execute(c)
  if c.kind == 'equal' then
    output(c).value = input(c).value
  elseif c.kind == 'scale' then
    if c.direction == FORWARD then
      c.b.value = c.a.value * c.scale.value + c.offset.value
    else
      c.a.value = floor((c.b.value - c.offset.value) / c.scale.value)
    end
  end
end
local function recalculate(c)
  local out = output(c)
  if not c.b then
    out.strength = c.strength
    out.stay = c.kind == 'stay'
    return
  end
  local from = input(c)
  out.strength = max(c.strength, from.strength)
  out.stay = from.stay
  if c.scale then out.stay = from.stay and c.scale.stay and c.offset.stay end
  if out.stay then execute(c) end
end
local function consumers(v, rest)
  local link = v.constraints
  while link do
    local c = link.item
    if c ~= v.determined_by and c.direction ~= NONE then rest = { item = c, next = rest } end
    link = link.next
  end
  return rest
end
local function propagate(c, mark)
  local todo = { item = c }
  while todo do
    local d = todo.item
    todo = todo.next
    local out = output(d)
    if out.mark == mark then
      remove_incrementally(c)
      return false
    end
    recalculate(d)
    todo = consumers(out, todo)
  end
  return true
end
local function satisfy(c, mark)
  choose_direction(c, mark)
  if c.direction == NONE then
    assert(c.strength ~= REQUIRED, 'a required constraint cannot hold')
    return nil
  end
  if c.b then
    input(c).mark = mark
    if c.scale then
      c.scale.mark = mark
      c.offset.mark = mark
    end
  end
  local out = output(c)
  local overridden = out.determined_by
  if overridden then overridden.direction = NONE end
  out.determined_by = c
  assert(propagate(c, mark), 'a cycle')
  out.mark = mark
  return overridden
end
function add_incrementally(c)
  local mark = new_mark()
  while c do c = satisfy(c, mark) end
end
local function join(v, c) v.constraints = { item = c, next = v.constraints } end
local function add_constraint(c)
  join(c.a, c)
  if c.b then join(c.b, c) end
  if c.scale then
    join(c.scale, c)
    join(c.offset, c)
  end
  add_incrementally(c)
end
local function without(list, c)
  if not list then return nil end
  if list.item == c then return list.next end
  local link = list
  while link.next and link.next.item ~= c do link = link.next end
  if link.next then link.next = link.next.next end
  return list
end
local function remove_from_variables(c)
  c.a.constraints = without(c.a.constraints, c)
  if c.b then c.b.constraints = without(c.b.constraints, c) end
  if c.scale then
    c.scale.constraints = without(c.scale.constraints, c)
    c.offset.constraints = without(c.offset.constraints, c)
  end
end
local function remove_propagated(out)
  out.determined_by = nil
  out.strength = WEAKEST
  out.stay = true
  local unsatisfied
  local todo = { item = out }
  while todo do
    local v = todo.item
    todo = todo.next
    local link = v.constraints
    while link do
      local c = link.item
      if c.direction == NONE then
        unsatisfied = { item = c, next = unsatisfied }
      elseif c ~= v.determined_by then
        recalculate(c)
        todo = { item = output(c), next = todo }
      end
      link = link.next
    end
  end
  return unsatisfied
end
function remove_incrementally(c)
  local out = output(c)
  c.direction = NONE
  remove_from_variables(c)
  local unsatisfied = remove_propagated(out)
  for strength = REQUIRED, WEAKEST - 1 do
    local link = unsatisfied
    while link do
      if link.item.strength == strength then add_incrementally(link.item) end
      link = link.next
    end
  end
end
local function destroy(c) if c.direction ~= NONE then remove_incrementally(c) else remove_from_variables(c) end end
local function inputs_known(c, mark)
  if not c.b then return true end
  local from = input(c)
  return from.mark == mark or from.stay or from.determined_by == nil
end
local function plan_from(edit)
  local mark = new_mark()
  local plan, todo
  if edit.direction ~= NONE then todo = { item = edit } end
  while todo do
    local c = todo.item
    todo = todo.next
    local out = output(c)
    if out.mark ~= mark and inputs_known(c, mark) then
      plan = { item = c, next = plan }
      out.mark = mark
      todo = consumers(out, todo)
    end
  end
  local result
  while plan do
    result = { item = plan.item, next = result }
    plan = plan.next
  end
  return result
end
local function execute_all(plan)
  while plan do
    execute(plan.item)
    plan = plan.next
  end
end
local function chain(n)
  local first = variable(0)
  local last = first
  for _ = 1, n do
    local following = variable(0)
    add_constraint(constraint('equal', REQUIRED, last, following))
    last = following
  end
  add_constraint(constraint('stay', STRONG_DEFAULT, last))
  local edit = constraint('edit', PREFERRED, first)
  add_constraint(edit)
  local plan = plan_from(edit)
  for i = 0, 99 do
    first.value = i
    execute_all(plan)
    assert(last.value == i)
  end
  destroy(edit)
  return last.value
end
local function change(v, value)
  local edit = constraint('edit', PREFERRED, v)
  add_constraint(edit)
  local plan = plan_from(edit)
  for _ = 1, 10 do
    v.value = value
    execute_all(plan)
  end
  destroy(edit)
end
local function projection(n)
  local scale, offset = variable(10), variable(1000)
  local targets, source = {}, nil
  for i = 0, n - 1 do
    source = variable(i)
    targets[i] = variable(i)
    add_constraint(constraint('stay', NORMAL, source))
    add_constraint(constraint('scale', REQUIRED, source, targets[i], scale, offset))
  end
  local target = targets[n - 1]
  change(source, 17)
  assert(target.value == 1170)
  change(target, 1050)
  assert(source.value == 5)
  change(scale, 5)
  for i = 0, n - 2 do assert(targets[i].value == i * 5 + 1000) end
  change(offset, 2000)
  local sum = 0
  for i = 0, n - 1 do sum = sum + targets[i].value end
  return sum + source.value
end
report(5, function()
  local r
  for _ = 1, 5 do
    last_mark = 0
    r = chain(100) * 1e7 + projection(100)
  end
  return r
end)
