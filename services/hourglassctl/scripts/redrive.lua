#!lua
-- Put a quarantined reading back into its partition as a new entry.
--
-- KEYS[1]  stream      KEYS[2] quarantine
-- ARGV     id in quarantine, original id, then the reading's fields and values
-- Reply    the new entry's id; an empty one if it is no longer in quarantine, or its partition has
--          expired
-- Keeps    a reading stands in the partition once: the original goes as the new one comes, so that
--          whoever counts from the raw readings finds it once
need(#KEYS == 2 and #ARGV >= 4 and #ARGV % 2 == 0, 'redrive takes 2 keys, 2 ids and pairs')
for i = 1, 2 do need(string.find(ARGV[i], '^%d+%-%d+$'), 'an id must be a time and a number') end
local stream, quarantine = KEYS[1], KEYS[2]
local quarantined, original = ARGV[1], ARGV[2]
if not (expect(stream, 'stream') and expect(quarantine, 'stream')) then return '' end
if redis.call('XDEL', quarantine, quarantined) == 0 then return '' end
local id = redis.call('XADD', stream, '*', unpack(ARGV, 3))
redis.call('XDEL', stream, original)
return id
