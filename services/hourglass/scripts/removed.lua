#!lua flags=no-writes
-- How many entries of a partition another program removed (XDEL, XTRIM, XADD with MAXLEN), and how many
-- of them before and after they were counted or put into quarantine.
--
-- KEYS[1]  stream      KEYS[2] hour records
-- ARGV     group
-- Reply    {} if there is no stream; {entries removed} if it has some and the records do not know how
--          many were acknowledged; else {entries removed, before, after}, each of the latter a lower
--          bound. They add up to the first when nothing is pending and little is not delivered
-- Keeps    the work is bounded, however long the stream is: entries not delivered yet are counted as far
--          as the limits below go. Beyond them they are taken to be as many as there can be, so that
--          none counts as removed that is not
need(#KEYS == 2 and #ARGV == 1, 'removed takes 2 keys and 1 argument')
local stream, hours, group = KEYS[1], KEYS[2], ARGV[1]
local MOST_ENTRIES, MOST_BYTES = 2000, 1000000
expect(hours, 'hash')
if not expect(stream, 'stream') then return {} end

local info = redis.call('XINFO', 'STREAM', stream)
local length = field(info, 'length')
local removed = field(info, 'entries-added') - length
if removed <= 0 then return { 0, 0, 0 } end -- below 0 after XSETID
local opened, acknowledged = unpack(redis.call('HMGET', hours, 'incarnation', 'acknowledged_entries'))
need_number(acknowledged, hours, 'acknowledged_entries')
if opened and not acknowledged then return { removed } end
acknowledged = tonumber(acknowledged or 0) -- of a partition that was not opened yet nothing is counted

local delivered, pending, lag = '0-0', 0, nil
for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(each, 'name') == group then
    delivered, pending, lag = field(each, 'last-delivered-id'), field(each, 'pending'), field(each, 'lag')
  end
end

-- Entries behind the last that was delivered; the lag counts removed ones too, if it is known at all.
local function undelivered()
  local seen, bytes, chunk, after = 0, 0, 1, delivered
  while after ~= GREATEST_ID do
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', chunk)
    seen = seen + #entries
    if #entries < chunk then return seen end
    after = entries[#entries][1]
    for _, entry in ipairs(entries) do
      for _, part in ipairs(entry[2]) do bytes = bytes + #part end
    end
    if seen >= MOST_ENTRIES or bytes >= MOST_BYTES then return math.min(lag or length, length) end
    chunk = math.min(2 * chunk, MOST_ENTRIES - seen)
  end
  return seen
end

local uncounted = pending + undelivered()
local before = field(info, 'entries-added') - acknowledged - uncounted
local after = acknowledged - length
return { removed, math.max(0, math.min(before, removed)), math.max(0, math.min(after, removed)) }
