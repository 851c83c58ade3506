#!lua flags=no-writes
-- The fields of entries, as far as they are no larger than a caller can hold.
--
-- KEYS[1]  the stream
-- ARGV     most bytes of an entry's names and values together, ids
-- Reply    for each of the first ids: its fields and values in turn; the number of their bytes, if
--          these are more; nil if there is no such entry. For all ids unless what they have is more
--          than that many bytes together, for one at least
need(#KEYS == 1 and #ARGV >= 2, 'fields takes 1 key, and 2 arguments or more')
need(is_whole(ARGV[1]), 'the bytes must be a whole number')
for i = 2, #ARGV do need(string.find(ARGV[i], '^%d+%-%d+$'), 'an id must be a time and a number') end
local most = tonumber(ARGV[1])
local exists = expect(KEYS[1], 'stream')

local reply, left = {}, most
for i = 2, #ARGV do
  local entry = exists and redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local size = 0
  for _, part in ipairs(entry and entry[2] or {}) do size = size + #part end
  reply[i - 1] = entry and (size <= most and entry[2] or size) or false
  left = left - size
  if left <= 0 then break end
end
return reply
