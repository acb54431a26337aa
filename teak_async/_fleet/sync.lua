-- One sync, as `ledger.apply` makes it; a line before this one has the constants, in upper case.
-- KEYS[1] is the bucket, ARGV[1] the sync as JSON, and ARGV[2] the time, in tests only.
-- It returns the fields of an `Answer` in their order, or nothing to a sync that comes too late.
local t, sync, floor, max, min = redis.call('TIME'), cjson.decode(ARGV[1]), math.floor, math.max, math.min
local now, kept = t[1] * 1000 + floor(t[2] / 1000), redis.call('GET', KEYS[1])
if ARGV[2] then now = tonumber(ARGV[2]) end
local s = kept and cjson.decode(kept) or {time = 0, clock = 0, last = now, back = 0, known = 0, paused = 0, cuts = 0, cut = {},
  members = {}}
local gap = max(now - s.last, 0)
s.time, s.clock, s.last = s.time + gap, s.clock + min(gap, GAP), now
if gap > GAP then s.back = s.time end
local heard = s.time - s.back >= LEASE
local before, over, gone = s.members[sync.member], 0, 0
if before and before.number >= sync.number then
  redis.call('SET', KEYS[1], cjson.encode(s), 'PX', KEPT)
  return false
end
for name, m in pairs(s.members) do
  local unseen = heard and m.held > 1 and s.time - m.at or s.clock - m.seen
  if name == sync.member then
  elseif name == sync.heir_of and m.bulk and unseen >= DEAD then
    over, gone, s.members[name] = over + m.held, gone + 1, nil
  elseif unseen >= max(FORGET, LEASE + m.late) or (0 < m['until'] and m['until'] <= s.time) then
    gone, s.members[name] = gone + 1, nil
  elseif unseen >= LEASE + m.late then m.held = min(m.held, max(m.floor, 0)) end
end
s.members[sync.member] = nil
local limit, held, count, bulk, place, live, idle, short, missed, passed = sync.limit, 0, 1, sync.bulk and 1 or 0, 0, 0, 0, 0, 0, 0
for name, m in pairs(s.members) do
  limit, held, count, short = min(limit, m.limit), held + m.held, count + 1, short + m.short
  if m.held > 1 and s.time - m.at >= DEAD then missed = missed + m.held end
  if s.time - m.at < RECENT then passed = passed + m.passed end
  if m.bulk then bulk, place = bulk + 1, place + (name < sync.member and 1 or 0)
  else live, idle = live + m.held, idle + ((m.held < 2 and m.short == 0) and 1 or 0) end
end
if sync.pause > 0 then s.paused = max(s.paused, s.time + sync.pause) end
if sync.cut ~= cjson.null and sync.cut.number == s.cuts + 1 then
  s.cuts, s.cut = sync.cut.number, sync.cut
  s.cut.from = s.paused
end
local there = limit
for _, step in ipairs(s.cut.steps or {}) do
  if step[1] <= max(s.time - s.cut.from, 0) then there = min(step[2], limit) end
end
s.known = max(s.known - gone, before and 0 or sync.known)
local unheard = s.clock < HEARD and max(s.known - count, 0) or 0
local free = there - held - sync.holding - over - unheard
local granted = over + (s.clock >= NEW and max(min(sync.ask, free - sync.keep_free), 0) or 0)
s.members[sync.member] = {number = sync.number, held = sync.holding + granted, floor = sync.floor, short = max(sync.short - granted, 0),
  bulk = sync.bulk, limit = sync.limit, late = sync.late, seen = s.clock, at = s.time, passed = sync.passed,
  ['until'] = sync.cooling >= 0 and s.time + sync.cooling or 0}
redis.call('SET', KEYS[1], cjson.encode(s), 'PX', KEPT)
free = free + over - granted
local cut = s.cut
return {granted, free, there, limit, count + unheard, bulk, place, live, idle, short, missed, max(s.paused - s.time, 0), passed,
  s.cuts, cut.level or 0, cut.held or 0, cut.hold or 0, s.time - (cut.from or s.time)}
