#!lua flags=allow-oom
-- Remove from a consumer group whoever is gone: idle for long, with nothing pending.
--
-- KEYS[1]  the stream
-- ARGV     group, idle time in ms from which a consumer counts as gone
-- Reply    consumers removed; 0 if there is no such stream or group
-- Keeps    XGROUP DELCONSUMER drops what a consumer has pending, so to look and to remove are one step
local stream = KEYS[1]
local group, gone_after = ARGV[1], tonumber(ARGV[2])

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then
  local absent = consumers.err:find('no such key', 1, true) or consumers.err:find('^NOGROUP')
  return absent and 0 or consumers
end

local removed = 0
for _, flat in ipairs(consumers) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.pending == 0 and consumer.idle >= gone_after then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    removed = removed + 1
  end
end
return removed
