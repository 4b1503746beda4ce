-- One decision of c1proxy: every rule is asked, and all are charged or none is.
--
-- KEYS  of each rule: its bucket, and the set of its places.
-- ARGV  'spend' or 'peek', the time or '' for the server's, the call's id, how
--       long a place is held (ms), and of each rule: what the call needs, the
--       capacity, what the asking replica knows to be owed (spans), the cap or 0,
--       how many calls the replica itself has under way, and 1 for a shadow.
-- Reply 1 if it is allowed, and of each rule: what was owed before (a span), how
--       many calls were under way, and 1 if the rule refuses.
--
-- Times and spans are whole nanoseconds, in at least four decimal digits. They
-- are taken apart into microseconds and 0 to 999 ns, since Lua's numbers, being
-- doubles, are exact only up to 2^53: for nanoseconds that is April 1970, for
-- microseconds the year 2255. All else is gcra.go, step by step.
--
-- A bucket's key outlives its debt by a second, and then goes by itself.

local function parse(text)
  return tonumber(string.sub(text, 1, -4)), tonumber(string.sub(text, -3))
end

local function format(us, ns)
  return string.format('%.0f%03d', us, ns)
end

local function add(aus, ans, bus, bns)
  local us, ns = aus + bus, ans + bns
  if ns > 999 then return us + 1, ns - 1000 end
  return us, ns
end

-- minus is never negative: a moment that has passed is no debt.
local function minus(aus, ans, bus, bns)
  local us, ns = aus - bus, ans - bns
  if ns < 0 then us, ns = us - 1, ns + 1000 end
  if us < 0 then return 0, 0 end
  return us, ns
end

local function more(aus, ans, bus, bns)
  return aus > bus or aus == bus and ans > bns
end

local peek = ARGV[1] == 'peek'
local nowus, nowns
if ARGV[2] == '' then
  local time = redis.call('TIME')
  nowus, nowns = tonumber(time[1]) * 1000000 + tonumber(time[2]), 0
else
  nowus, nowns = parse(ARGV[2])
end
local nowms = math.floor(nowus / 1000)

local rules, allowed = {}, true
for i = 1, #KEYS / 2 do
  local at = 4 + (i - 1) * 6
  local r = {bucket = KEYS[2 * i - 1], places = KEYS[2 * i], most = tonumber(ARGV[at + 4]), count = 0}
  local needus, needns = parse(ARGV[at + 1])
  local capus, capns = parse(ARGV[at + 2])
  local knownus, knownns = parse(ARGV[at + 3])

  -- A debt that the limit cannot have is an older limit's, or an older clock's.
  local us, ns = 0, 0
  local stored = redis.call('GET', r.bucket)
  if stored then
    local tatus, tatns = parse(stored)
    us, ns = minus(tatus, tatns, nowus, nowns)
  end
  if more(us, ns, capus, capns) then us, ns = capus, capns end
  if more(knownus, knownns, capus, capns) then knownus, knownns = capus, capns end
  -- What a replica has seen counts, though Redis may have forgotten it.
  if more(knownus, knownns, us, ns) then
    us, ns, r.write = knownus, knownns, true
  end
  r.us, r.ns = us, ns
  r.afterus, r.afterns = add(us, ns, needus, needns)
  r.refuses = more(r.afterus, r.afterns, capus, capns)
  r.spends = needus > 0 or needns > 0

  if r.most ~= 0 then
    r.count = math.max(redis.call('ZCOUNT', r.places, '(' .. string.format('%.0f', nowms), '+inf'), tonumber(ARGV[at + 5]))
    r.refuses = r.refuses or r.count >= r.most
  end
  if r.refuses and ARGV[at + 6] ~= '1' then allowed = false end
  rules[i] = r
end

local reply = {allowed and 1 or 0}
for _, r in ipairs(rules) do
  table.insert(reply, format(r.us, r.ns))
  table.insert(reply, r.count)
  table.insert(reply, r.refuses and 1 or 0)
  if not peek then
    local us, ns = r.us, r.ns
    if allowed and not r.refuses then
      if r.spends then us, ns, r.write = r.afterus, r.afterns, true end
      if r.most ~= 0 then
        redis.call('ZREMRANGEBYSCORE', r.places, '-inf', string.format('%.0f', nowms))
        redis.call('ZADD', r.places, string.format('%.0f', nowms + tonumber(ARGV[4])), ARGV[3])
        if redis.call('PTTL', r.places) < tonumber(ARGV[4]) then redis.call('PEXPIRE', r.places, ARGV[4]) end
      end
    end
    if r.write then
      local tatus, tatns = add(us, ns, nowus, nowns)
      redis.call('SET', r.bucket, format(tatus, tatns), 'PX', string.format('%.0f', math.floor(us / 1000) + 1000))
    end
  end
end
return reply
