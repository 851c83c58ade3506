#!lua flags=allow-oom
-- Count readings in the same step that takes them out of quarantine.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the devices seen, a hash of block -> bits for each partial aggregate, in the order of the partial aggregates
-- ARGV     id in quarantine, real time in ms at which the records expire, and MessagePack of
--          { partial aggregates, rejects }, as in partials.lua
-- Reply    {1, readings that were late}; {0} if it is no longer in quarantine; {-1} if its partition has
--          expired
-- Keeps    a reading is counted once: by the call that takes it out of quarantine. The entry that it came in
--          is left as it is, so a recount of the raw readings includes it once
need(#KEYS >= 3 and #ARGV == 3, 'redrive takes 3 keys or more and 3 arguments')
need(string.find(ARGV[1], '^%d+%-%d+$'), 'an id must be a time and a number')
need(is_whole(ARGV[2]), 'the time must be a whole number')
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local batch = unpacked(ARGV[3])
local partials, rejects = batch[1], batch[2]
need_partials(partials, rejects)
expect(hours, 'hash')
if not expect(stream, 'stream') then return { -1 } end
if not expect(quarantine, 'stream') then return { 0 } end
if #rejects > 0 then expect_room(quarantine) end
local records = records_of(hours, partials)

local row = redis.call('XRANGE', quarantine, ARGV[1], ARGV[1])[1]
if not row then return { 0 } end
local readings = field(row[2], 'readings')
need(readings and is_count(tonumber(readings)), quarantine .. ' must hold what a commit put there')
redis.call('XDEL', quarantine, ARGV[1])
redis.call('HINCRBY', hours, 'quarantined', -readings)
local late, counted = count_all(hours, quarantine, partials, records, rejects, ARGV[2])
-- An entry that was given up undecoded was taken for one reading.
redis.call('HINCRBY', hours, 'acknowledged', string.format('%.0f', counted - readings))
return { 1, late }
