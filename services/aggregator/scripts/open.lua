#!lua flags=allow-oom
-- Give a partition its consumer group, if the partition exists.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the devices seen, a hash of block -> bits for each hour from 0 to 23
-- ARGV     group, real time in ms at which the stream expires at the latest, the same for records;
--          for each hour from 0 to 23 a digit: 1 if the day has sealed or published it without this
--          partition, else 0; pipeline time in ms
-- Reply    {what was found, the incarnation of group and records, which a commit has to name}:
--          'absent'   there is no such stream
--          'open'     the group was there
--          'opened'   made now
--          'recount'  created again, because it was destroyed, or the records, while the stream lived
--          'remade'   created again for another stream than the one that was counted so far; the records
--                     remember it, because raw readings cannot bear out what they count any more
-- Keeps    no key without TTL: the group is never made with MKSTREAM, and a stream that a foreign
--          writer left without TTL gets one. On a recount every reading is delivered again, so
--          open hours start from nothing; a sealed hour keeps its record, and its late count starts
--          at minus what it had counted, which the readings delivered again bring back to the truth.
--          `acknowledged_entries` of the records is there from the first reading on, or not at all
--          A partition whose records cannot be added to is not opened, so that no aggregator reads what cannot
--          be counted, and no entry is taken for one that its readers die of.
--          An hour that the day has sealed without this partition is sealed here before the first
--          reading is counted, which is late then
need(#KEYS == 27 and #ARGV == 5, 'open takes 27 keys and 5 arguments')
need(ARGV[1] ~= '', 'the group must have a name')
for _, i in ipairs({ 2, 3, 5 }) do need(is_whole(ARGV[i]), 'the times must be whole numbers') end
need(#ARGV[4] == 24 and string.find(ARGV[4], '^[01]+$'), 'each hour is sealed without it, 1, or not, 0')
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local group, stream_expires, records_expire, without_it, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
expect(hours, 'hash')
expect(quarantine, 'stream')
expect_room(quarantine)
for hour = 0, 23 do expect(KEYS[4 + hour], 'hash') end
if not expect(stream, 'stream') then return { 'absent', '' } end
local names = { 'acknowledged', 'acknowledged_entries', 'quarantined' }
for hour = 0, 23 do
  for _, each in ipairs({ 'count', 'sum', 'min', 'max', 'devices', 'late', 'late_sum', 'late_min', 'late_max' }) do
    names[#names + 1] = string.format('%02d:%s', hour, each)
  end
end
for i, value in ipairs(redis.call('HMGET', hours, unpack(names))) do need_number(value, hours, names[i]) end

local function minus(sum)
  if sum == '0' then return sum end -- Redis takes no '-0' for an integer
  return sum:sub(1, 1) == '-' and sum:sub(2) or '-' .. sum
end

redis.call('PEXPIREAT', stream, stream_expires, 'NX')
local incarnation, opened = unpack(redis.call('HMGET', hours, 'incarnation', 'opened'))
local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0')
local records_lost = false
if made.err then
  if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  if incarnation then return { 'open', incarnation } end
  -- The group knows what was counted, and nothing else does.
  redis.call('XGROUP', 'DESTROY', stream, group)
  redis.call('XGROUP', 'CREATE', stream, group, '0')
  records_lost = true
end

-- `opened` is the id of an entry that the stream counted so far has held: its first one, or, where it
-- was empty then, the first one that was committed; '0-0' while there is none. A stream without that
-- entry that never gave up one is another stream. A stream that did give up some counts as the same,
-- because a recount gives what the raw readings say.
local counted_of_it = opened and opened ~= '0-0'
local function is_another_stream()
  if not counted_of_it or #redis.call('XRANGE', stream, opened, opened) > 0 then return false end
  local info = redis.call('XINFO', 'STREAM', stream)
  return field(info, 'entries-added') == field(info, 'length')
end
local remade = is_another_stream()
local recount = not remade and (records_lost or counted_of_it)
local in_sealed_hours = 0
local is_first = not incarnation and not records_lost
for hour = 0, 23 do
  local h = string.format('%02d:', hour)
  if redis.call('HEXISTS', hours, h .. 'sealed') == 0 then
    redis.call('HDEL', hours, h .. 'cut_off', h .. 'empty')
    if recount then
      redis.call('HDEL', hours, h .. 'count', h .. 'sum', h .. 'min', h .. 'max', h .. 'devices')
    end
    -- Devices that no record counts would be missing from those counted again.
    if recount or not incarnation then redis.call('UNLINK', KEYS[4 + hour]) end
    if is_first and without_it:sub(hour + 1, hour + 1) == '1' then redis.call('HSET', hours, h .. 'sealed', now) end
  elseif recount then
    local count, sum = unpack(redis.call('HMGET', hours, h .. 'count', h .. 'sum'))
    redis.call('HSET', hours, h .. 'late', minus(count or '0'), h .. 'late_sum', minus(sum or '0'))
    in_sealed_hours = in_sealed_hours + tonumber(count or '0')
  end
end
-- Entries that were acknowledged and will not be delivered again: of those that another program removed,
-- at most as many as were acknowledged, and as sealed hours have readings. The others are lost.
local acknowledged = 0
if recount then
  local info = redis.call('XINFO', 'STREAM', stream)
  local removed = field(info, 'entries-added') - field(info, 'length')
  local before = tonumber(redis.call('HGET', hours, 'acknowledged_entries') or removed)
  acknowledged = math.min(removed, before, in_sealed_hours)
  redis.call('UNLINK', quarantine)
  redis.call('HDEL', hours, 'acknowledged', 'quarantined')
end

local time = redis.call('TIME')
incarnation = time[1] .. '.' .. time[2]
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
redis.call('HSET', hours, 'incarnation', incarnation, 'opened', first and first[1] or '0-0',
  'acknowledged_entries', string.format('%.0f', acknowledged))
if remade then redis.call('HSET', hours, 'remade', incarnation) end
keep_until(hours, records_expire)
return { remade and 'remade' or recount and 'recount' or 'opened', incarnation }
