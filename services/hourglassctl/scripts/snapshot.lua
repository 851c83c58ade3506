#!lua flags=no-writes
-- What a partition held, and what had been counted of it, at one instant.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine      KEYS[4] producers
-- ARGV     group
-- Reply    {hour records as HGETALL, what was acknowledged to each producer and is stored, as in its hash,
--           {the readings that all of them ever had here, the entries these came in}, the group's last delivered id, ids
--           delivered and not acknowledged, those of them that were delivered again, a mark that changes when something is taken out of
--           quarantine};
--          an empty id if there is no stream, '0-0' if it has no such group
-- Keeps    entries up to that id, those ids excepted, are just what the records counted or what
--          went to quarantine, however busy the partition is
need(#KEYS == 4 and #ARGV == 1, 'snapshot takes 4 keys and 1 argument')
local stream, hours, group = KEYS[1], KEYS[2], ARGV[1]
expect(hours, 'hash')
expect(KEYS[3], 'stream')
expect(KEYS[4], 'hash')

local records = redis.call('HGETALL', hours)
local producers = {}
local known = redis.call('HGETALL', KEYS[4])
local written = { field(known, ':readings') or '0', field(known, ':entries') or '0' }
need(is_sum(written[1]) and is_sum(written[2]), 'the producers hash must hold what producers put there')
need_number(field(records, 'acknowledged'), hours, 'acknowledged')
for i = 1, #known, 2 do
  if known[i]:sub(1, 1) ~= ':' then producers[#producers + 1] = known[i + 1] end
end
local mark = ''
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  mark = string.format('%s %.0f', redis.call('HMGET', hours, 'incarnation')[1] or '',
    field(info, 'entries-added') - field(info, 'length'))
end
if not expect(stream, 'stream') then return { records, producers, written, '', {}, {}, mark } end
local delivered = '0-0'
local pending, retried = {}, {}
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(info, 'name') == group then
    delivered = field(info, 'last-delivered-id')
    if field(info, 'pending') > 0 then
      for i, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', field(info, 'pending'))) do
        pending[i] = entry[1]
        if entry[4] > 1 then retried[#retried + 1] = entry[1] end
      end
    end
  end
end
return { records, producers, written, delivered, pending, retried, mark }
