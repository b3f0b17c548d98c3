-- The program of examples/richards.flow.
local bit = rawget(_G, 'jit') and require('bit')
local bor, band, bxor
if bit then
  bor, band, bxor = bit.bor, bit.band, bit.bxor
else
  bor = load('return function(a, b) return a | b end')()
  band = load('return function(a, b) return a & b end')()
  bxor = load('return function(a, b) return a ~ b end')()
end
local floor = math.floor
local IDLE, WORKER, HANDLER_A, HANDLER_B, DEVICE_A, DEVICE_B = 0, 1, 2, 3, 4, 5
local RUNNING, RUNNABLE, SUSPENDED, HELD, DATA, COUNT = 0, 1, 2, 4, 4, 1000

local function packets(count, id, kind)
  local queue
  for _ = 1, count do queue = { link = queue, id = id, kind = kind, a1 = 0, a2 = { 0, 0, 0, 0 } } end
  return queue
end
local function add_task(s, id, priority, queue, task)
  local state = queue and bor(SUSPENDED, RUNNABLE) or SUSPENDED
  s.current = { link = s.list, id = id, priority = priority, queue = queue, state = state, task = task }
  s.list = s.current
  s.blocks[id] = s.current
end
local function append(packet, queue)
  packet.link = nil
  if not queue then return packet end
  local last = queue
  while last.link do last = last.link end
  last.link = packet
  return queue
end
local function hold(s)
  s.held = s.held + 1
  s.current.state = bor(s.current.state, HELD)
  return s.current.link
end
local function suspend(s)
  s.current.state = bor(s.current.state, SUSPENDED)
  return s.current
end
local function release(s, id)
  local tcb = s.blocks[id]
  tcb.state = band(tcb.state, 3)
  if tcb.priority > s.current.priority then return tcb end
  return s.current
end
local function send_on(s, packet)
  local tcb = s.blocks[packet.id]
  s.queued = s.queued + 1
  packet.link = nil
  packet.id = s.current_id
  if not tcb.queue then
    tcb.queue = packet
    tcb.state = bor(tcb.state, RUNNABLE)
    if tcb.priority > s.current.priority then return tcb end
  else
    tcb.queue = append(packet, tcb.queue)
  end
  return s.current
end
local function run_idle(s, task)
  task.count = task.count - 1
  if task.count == 0 then return hold(s) end
  if task.bits % 2 == 0 then
    task.bits = floor(task.bits / 2)
    return release(s, DEVICE_A)
  end
  task.bits = bxor(floor(task.bits / 2), 53256)
  return release(s, DEVICE_B)
end
local function run_device(s, task, packet)
  if not packet then
    local pending = task.pending
    if not pending then return suspend(s) end
    task.pending = nil
    return send_on(s, pending)
  end
  task.pending = packet
  return hold(s)
end
local function run_worker(s, task, packet)
  if not packet then return suspend(s) end
  task.target = HANDLER_A + HANDLER_B - task.target
  packet.id = task.target
  packet.a1 = 0
  for i = 1, DATA do
    task.letter = task.letter % 26 + 1
    packet.a2[i] = task.letter
  end
  return send_on(s, packet)
end
local function run_handler(s, task, packet)
  if packet then
    if packet.kind == 'work' then task.work = append(packet, task.work) else task.devices = append(packet, task.devices) end
  end
  local work = task.work
  if work then
    local count = work.a1
    if count < DATA then
      local device = task.devices
      if device then
        task.devices = device.link
        device.a1 = work.a2[count + 1]
        work.a1 = count + 1
        return send_on(s, device)
      end
    else
      task.work = work.link
      return send_on(s, work)
    end
  end
  return suspend(s)
end
local function run(s, tcb)
  local packet
  if tcb.state == 3 then
    packet = tcb.queue
    tcb.queue = packet.link
    tcb.state = tcb.queue and RUNNABLE or RUNNING
  end
  local id = tcb.id
  if id == IDLE then return run_idle(s, tcb.task) end
  if id == WORKER then return run_worker(s, tcb.task, packet) end
  if id == DEVICE_A or id == DEVICE_B then return run_device(s, tcb.task, packet) end
  return run_handler(s, tcb.task, packet)
end
local function simulate()
  local s = { queued = 0, held = 0, blocks = {} }
  add_task(s, IDLE, 0, nil, { bits = 1, count = COUNT })
  s.current.state = RUNNING
  add_task(s, WORKER, 1000, packets(2, WORKER, 'work'), { target = HANDLER_A, letter = 0 })
  add_task(s, HANDLER_A, 2000, packets(3, DEVICE_A, 'device'), {})
  add_task(s, HANDLER_B, 3000, packets(3, DEVICE_B, 'device'), {})
  add_task(s, DEVICE_A, 4000, nil, {})
  add_task(s, DEVICE_B, 5000, nil, {})
  s.current = s.list
  while s.current do
    local tcb = s.current
    if band(tcb.state, HELD) ~= 0 or tcb.state == SUSPENDED then
      s.current = tcb.link
    else
      s.current_id = tcb.id
      s.current = run(s, tcb)
    end
  end
  return s.queued * 10000 + s.held
end
report(20 * 2322, function()
  local r
  for _ = 1, 20 do r = simulate() end
  return r
end)
