#!lua flags=allow-oom
-- Seal the hours of a partition that are due, each once all that had arrived by then is counted.
--
-- KEYS[1]  stream      KEYS[2] hour records
-- KEYS[3…] the sets of devices seen, one per hour from 0 to 23
-- ARGV     group, how many hours are due (the first so many: 0 to 24), who seals,
--          pipeline time in ms, real time in ms at which the records expire
-- Reply    {hours sealed by this call, hours due and not sealed yet,
--           {hour, count, sum, min, max, devices, late, late sum, sealed by} for each sealed hour};
--          counts and sums are text, missing ones nil
-- Keeps    an hour is sealed once. The barrier is the stream's last id when the hour was first found
--          due; it seals when the group has been delivered everything up to the barrier and nothing
--          up to it is pending. A partition whose stream is gone has nothing left to wait for
local stream, hours = KEYS[1], KEYS[2]
local group, due, sealed_by, now, records_expire =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local function field(reply, name)
  for i = 1, #reply, 2 do
    if reply[i] == name then return reply[i + 1] end
  end
end

local alive = redis.call('EXISTS', stream) == 1
if not alive and redis.call('EXISTS', hours) == 0 then return {{}, 0, {}} end

local last, delivered
local function counted_up_to(barrier)
  if not alive then return true end
  if not delivered then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      if field(info, 'name') == group then delivered = field(info, 'last-delivered-id') end
    end
  end
  -- By what is there, not by ids: an entry deleted unread will never be delivered.
  return delivered and #redis.call('XRANGE', stream, '(' .. delivered, barrier, 'COUNT', 1) == 0
    and #redis.call('XPENDING', stream, group, '-', barrier, 1) == 0
end

local sealed_now, waiting, report = {}, 0, {}
for hour = 0, 23 do
  local h = string.format('%02d:', hour)
  local sealed = redis.call('HEXISTS', hours, h .. 'sealed') == 1
  if not sealed and hour < due then
    local barrier = redis.call('HGET', hours, h .. 'barrier')
    if alive and not barrier then
      last = last or field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
      barrier = last
      redis.call('HSET', hours, h .. 'barrier', barrier)
    end
    if counted_up_to(barrier) then
      local devices = redis.call('SCARD', KEYS[3 + hour])
      redis.call('UNLINK', KEYS[3 + hour])
      redis.call('HSET', hours, h .. 'sealed', now, h .. 'sealed_by', sealed_by, h .. 'devices', devices)
      sealed_now[#sealed_now + 1] = hour
      sealed = true
    else
      waiting = waiting + 1
    end
  end
  if sealed then
    local record = redis.call('HMGET', hours, h .. 'count', h .. 'sum', h .. 'min', h .. 'max',
      h .. 'devices', h .. 'late', h .. 'late_sum', h .. 'sealed_by')
    table.insert(record, 1, hour)
    report[#report + 1] = record
  end
end
if redis.call('PEXPIREAT', hours, records_expire, 'NX') == 0 then
  redis.call('PEXPIREAT', hours, records_expire, 'GT')
end
return {sealed_now, waiting, report}
