#!lua flags=no-writes
-- What a partition held, and what had been counted of it, at one instant.
--
-- KEYS[1]  stream      KEYS[2] hour records
-- ARGV     group
-- Reply    {hour records as HGETALL, the group's last delivered id, ids delivered and not
--           acknowledged}; an empty id if there is no stream, '0-0' if it has no such group
-- Keeps    entries up to that id, those ids excepted, are just what the records counted or what
--          went to quarantine, however busy the partition is
local stream, hours, group = KEYS[1], KEYS[2], ARGV[1]

local records = redis.call('HGETALL', hours)
if redis.call('EXISTS', stream) == 0 then return {records, '', {}} end
local delivered = '0-0'
local pending = {}
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local values = {}
  for i = 1, #info, 2 do values[info[i]] = info[i + 1] end
  if values['name'] == group then
    delivered = values['last-delivered-id']
    if values['pending'] > 0 then
      for i, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', values['pending'])) do
        pending[i] = entry[1]
      end
    end
  end
end
return {records, delivered, pending}
