-- When a partition was last called, and since when without a gap, by the shard's own TIME; both stand
-- in the hash of producers. A gap says that the shard could not be reached: a producer that did not
-- send meanwhile may have readings to send.

local GAP_MS = 5000
-- The last call is written no more often than this: it costs a write, and a gap is still seen.
local NOTED_MS = 1000

local function time_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How far this shard's clock is ahead of real time as the caller knows it, by the clocks of all masters;
-- nil if by no more than is tolerated. A clock that leaps seals and publishes nothing.
local TOLERATED_MS = 2000
local function deviation(now, real)
  local ahead = now - tonumber(real)
  return math.abs(ahead) > TOLERATED_MS and ahead or nil
end

-- Notes a call at `now`; returns since when there has been no gap. The first call counts as one after
-- a gap, and so does one before the last: another server's clock goes on, so there was a failover.
local function note_call(producers, called, resumed, now)
  called, resumed = tonumber(called), tonumber(resumed)
  local text = string.format('%.0f', now)
  if not called or not resumed or now < called or now - called > GAP_MS then
    redis.call('HSET', producers, ':called', text, ':resumed', text)
    return now
  end
  if now - called >= NOTED_MS then redis.call('HSET', producers, ':called', text) end
  return resumed
end
