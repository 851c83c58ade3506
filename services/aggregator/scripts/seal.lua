#!lua flags=allow-oom
-- Seal the hours of a partition that are due, each once all that had arrived by then is counted.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] where the lanes of a day stand
-- KEYS[4…] the devices seen, a hash of block -> bits for each hour from 0 to 23
-- ARGV     group, how many hours are due (the first so many: 0 to 24), who seals,
--          pipeline time in ms, real time in ms at which the records expire, and at which the hour in
--          progress ends, 1 if the day has begun in another of its partitions, else 0
-- Reply    {hours sealed by this call, hours due and not sealed yet,
--           {hour, count, sum, min, max, devices, late, late sum, late min, late max, sealed by, trace}
--           for each sealed hour,
--           1 if the day has begun here, or was said to have, else 0, lanes of the day or nil};
--          counts and sums are text, missing ones nil
-- Keeps    an hour is sealed once. The barrier is the stream's last id when the hour was first found
--          due; it seals when the group has been delivered everything up to the barrier and nothing
--          up to it is pending. A partition whose stream is gone, or is no stream any more, has
--          nothing left to wait for; one whose records are gone waits until it has been opened again.
--          Where a day has begun, a partition without readings is sealed like the others: an hour is
--          published when all of its day's partitions have sealed it, and what comes after is late.
--          The devices of the last hour sealed stay to be compared with those seen since: until the next
--          one is sealed, and no longer than the hour in progress takes
need(#KEYS == 27 and #ARGV == 7, 'seal takes 27 keys and 7 arguments')
need(is_whole(ARGV[2]) and tonumber(ARGV[2]) <= 24, 'the hours due must be 0 to 24')
need(ARGV[1] ~= '', 'the group must have a name')
for i = 4, 6 do need(is_whole(ARGV[i]), 'the times must be whole numbers') end
need(ARGV[7] == '0' or ARGV[7] == '1', 'the day has begun elsewhere, 1, or not, 0')
local stream, hours = KEYS[1], KEYS[2]
local group, due, sealed_by, now, records_expire, devices_expire, begun =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
for hour = 0, 23 do expect(KEYS[4 + hour], 'hash') end
local recorded = expect(hours, 'hash')
local lanes = lanes_at(KEYS[3])

local alive = redis.call('TYPE', stream).ok == 'stream'
if not alive and not recorded and not begun then return { {}, 0, {}, 0, lanes } end

local last, delivered
local opened = redis.call('HEXISTS', hours, 'incarnation') == 1
local function counted_up_to(barrier)
  if not alive then return true end
  if not opened then return false end
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
      if hour > 0 then redis.call('UNLINK', KEYS[3 + hour]) end
      -- Shortened on purpose: nobody adds to a sealed hour's devices.
      redis.call('PEXPIREAT', KEYS[4 + hour], devices_expire)
      redis.call('HSET', hours, h .. 'sealed', now, h .. 'sealed_by', sealed_by)
      sealed_now[#sealed_now + 1] = hour
      sealed = true
    else
      waiting = waiting + 1
    end
  end
  if sealed then
    local record = redis.call('HMGET', hours, h .. 'count', h .. 'sum', h .. 'min', h .. 'max',
      h .. 'devices', h .. 'late', h .. 'late_sum', h .. 'late_min', h .. 'late_max', h .. 'sealed_by', h .. 'trace')
    table.insert(record, 1, hour)
    report[#report + 1] = record
  end
end
keep_until(hours, records_expire)
return { sealed_now, waiting, report, 1, lanes }
