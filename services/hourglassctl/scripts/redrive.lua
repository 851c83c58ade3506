#!lua
-- Put a quarantined reading back into its partition as a new entry.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- ARGV     id in quarantine, original id, then the reading's fields and values
-- Reply    the new entry's id; an empty one if it is no longer in quarantine, or its partition has
--          expired
-- Keeps    a reading stands in the partition once: the original goes as the new one comes, so that
--          whoever counts from the raw readings finds it once
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local quarantined, original = ARGV[1], ARGV[2]

redis.call('HLEN', hours)
if redis.call('EXISTS', stream) == 0 then return '' end
if redis.call('XDEL', quarantine, quarantined) == 0 then return '' end
local id = redis.call('XADD', stream, '*', unpack(ARGV, 3))
redis.call('XDEL', stream, original)
redis.call('HSET', hours, 'opened', id)
return id
