#!lua flags=allow-oom
-- Seal the hours of a partition that are over, each once it waits for no producer and all that had
-- arrived by then is counted.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] where the lanes of a day stand
-- KEYS[4]  producers      KEYS[5] their watermarks: both as in ingest.lua
-- KEYS[6…] the devices seen, a hash of block -> bits for each hour from 0 to 23
-- ARGV     group, how many hours are over (the first so many: 0 to 24), who seals,
--          pipeline time in ms, real time in ms at which the records expire, and at which the hour in
--          progress ends, the lateness and the idle time in ms, and for each hour from 0 to 23 a digit:
--          1 if it is sealed with readings in another of the day's partitions, else 0; real time in ms
-- Reply    how far this shard's clock is ahead of that, in ms, if it deviates too far for anything to be
--          done; else
--          {hours sealed by this call, hours that are over and wait,
--           {hour, count, sum, min, max, devices, late, late sum, late min, late max, sealed by, trace}
--           for each sealed hour, lanes of the day or nil};
--          counts and sums are text, missing ones nil
-- Keeps    an hour is sealed once, and none without readings, unless the day has some for it elsewhere.
--          It waits until
--          1. it was first found over the lateness ago, and the partition has been called without a
--             gap for the idle time: so long has a producer to reconnect after an outage, and
--          2. no producer that sent a batch within the idle time may have readings for it, by its
--             watermark, and
--          3. the group has been delivered everything up to the cut-off id, the stream's last id when
--             1 and 2 first held, and nothing up to it is pending.
--          All by this shard's time. An hour that is empty then is marked so, and holds nothing back;
--          if readings come for it after all, it waits for a cut-off id again. A partition whose stream
--          is gone, or is no stream any more, has nothing left to wait for; one whose records are gone
--          waits until it has been opened again.
--          The devices of the last hour sealed stay to be compared with those seen since: until the next
--          one is sealed, and no longer than the hour in progress takes
need(#KEYS == 29 and #ARGV == 10, 'seal takes 29 keys and 10 arguments')
need(is_whole(ARGV[2]) and tonumber(ARGV[2]) <= 24, 'the hours over must be 0 to 24')
need(ARGV[1] ~= '', 'the group must have a name')
for i = 4, 8 do need(is_whole(ARGV[i]), 'the times must be whole numbers') end
need(#ARGV[9] == 24 and string.find(ARGV[9], '^[01]+$'), 'each hour has readings elsewhere, 1, or not, 0')
need(is_whole(ARGV[10]), 'real time must be whole')
local stream, hours, producers, watermarks = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local group, over, sealed_by, now, records_expire, devices_expire =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lateness, idle, elsewhere = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local DEVICES = 5 -- the keys before those of the devices
-- Producers read in one call.
local LOOKED_AT = 1000
for hour = 0, 23 do expect(KEYS[DEVICES + 1 + hour], 'hash') end
expect(producers, 'hash')
expect(watermarks, 'zset')
local recorded = expect(hours, 'hash')
local lanes = lanes_at(KEYS[3])

local time = time_ms()
local ahead = deviation(time, ARGV[10])
if ahead then return ahead end

local alive = redis.call('TYPE', stream).ok == 'stream'
if not alive and not recorded and not elsewhere:find('1', 1, true) then return { {}, {}, {}, lanes } end

local resumed = 0
if alive then
  local called, since = unpack(redis.call('HMGET', producers, ':called', ':resumed'))
  resumed = note_call(producers, called, since, time)
  keep_until(producers, records_expire)
end

-- Whether a producer that lives may have readings from before `ends`, in ms since the partition's start.
-- One that sent nothing for the idle time is forgotten until it sends again, so it is read once.
-- A time that is still to come is another server's, from before a failover.
local looked_at, behind = 0, false -- one that is behind in an hour is behind in those after it
local function is_one_behind(ends)
  while not behind do
    local producer = redis.call('ZRANGEBYSCORE', watermarks, '-inf', '(' .. ends, 'LIMIT', 0, 1)[1]
    if not producer then return false end
    local known = redis.call('HGET', producers, producer) or ''
    local received = tonumber(string.match(known, '^%d+ %d+ %d+ (%d+)$'))
    looked_at = looked_at + 1
    if received and received <= time and time - received < idle then
      behind = true
    else
      redis.call('ZREM', watermarks, producer)
      behind = looked_at == LOOKED_AT
    end
  end
  return true
end

local function may_be_sealed(hour, ended)
  return time >= ended + lateness
    and (idle == 0 or time >= resumed + idle and not is_one_behind((hour + 1) * 3600000))
end

local last, delivered
local opened = redis.call('HEXISTS', hours, 'incarnation') == 1
local function counted_up_to(cut_off)
  if not alive then return true end
  if not opened then return false end
  if not delivered then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      if field(info, 'name') == group then delivered = field(info, 'last-delivered-id') end
    end
  end
  -- By what is there, not by ids: an entry deleted unread will never be delivered.
  return delivered
    and (delivered == GREATEST_ID or #redis.call('XRANGE', stream, '(' .. delivered, cut_off, 'COUNT', 1) == 0)
    and #redis.call('XPENDING', stream, group, '-', cut_off, 1) == 0
end

local STATE = { 'sealed', 'count', 'ended', 'empty', 'cut_off' }
local names = {}
for hour = 0, 23 do
  for _, name in ipairs(STATE) do names[#names + 1] = string.format('%02d:%s', hour, name) end
end
local state = redis.call('HMGET', hours, unpack(names))

local sealed_now, waiting, report = {}, {}, {}
for hour = 0, 23 do
  local h = string.format('%02d:', hour)
  local sealed, count, ended, empty, cut_off = unpack(state, hour * #STATE + 1, (hour + 1) * #STATE)
  if hour >= over then
    -- The clock was set back.
    if (ended or cut_off) and not sealed then redis.call('HDEL', hours, h .. 'ended', h .. 'empty', h .. 'cut_off') end
  elseif not sealed then
    ended = tonumber(ended)
    if alive and (not ended or ended > time) then
      ended = time
      redis.call('HSET', hours, h .. 'ended', string.format('%.0f', time))
    end
    if empty and count then
      redis.call('HDEL', hours, h .. 'empty')
      empty = false
    end
    if alive and not empty and not cut_off and may_be_sealed(hour, ended) then
      last = last or field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
      cut_off = last
      redis.call('HSET', hours, h .. 'cut_off', cut_off)
    end
    if not empty and not ((cut_off or not alive) and counted_up_to(cut_off)) then
      waiting[#waiting + 1] = hour
    elseif count or elsewhere:sub(hour + 1, hour + 1) == '1' then
      if hour > 0 then redis.call('UNLINK', unpack(KEYS, DEVICES + 1, DEVICES + hour)) end
      -- Shortened on purpose: no script adds to a sealed hour's devices.
      redis.call('PEXPIREAT', KEYS[DEVICES + 1 + hour], devices_expire)
      redis.call('HSET', hours, h .. 'sealed', now, h .. 'sealed_by', sealed_by)
      sealed_now[#sealed_now + 1] = hour
      sealed = true
    elseif not empty and alive then
      redis.call('HSET', hours, h .. 'empty', 1)
      redis.call('HDEL', hours, h .. 'cut_off')
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
return { sealed_now, waiting, report, lanes }
