-- Connections up to many: UDP flows, opened in steps; after each, all of them are visited in turn, and the rate that gets
-- through is told. What it shows is the cost of a cold table.
--
-- POLLUX_FLOWS    at the end (10000000)
-- POLLUX_RATE     percent of the link (10)
-- POLLUX_SECONDS  of each step's measurement (10)
-- POLLUX_SIZE     frame size (64)

package.path = package.path .. ";" .. debug.getinfo(1, "S").source:sub(2):match("^(.-)[^/]*$") .. "?.lua"
local common = require("common")

local last = common.number("FLOWS", 10000000)
local rate = common.number("RATE", 10)
local seconds = common.number("SECONDS", 10)
local size = common.number("SIZE", 64)

local flows = math.min(1000, last)
while true do
  common.prepare("udp", size)
  local tuples = common.range("udp", size, flows)
  -- Once round, to open them: packets, not seconds, are what counts.
  pktgen.clear("all")
  pktgen.set(common.client, "rate", rate)
  pktgen.set(common.client, "count", tuples)
  pktgen.start(common.client)
  local waited = 0
  repeat
    pktgen.delay(1000)
    waited = waited + 1
    local _, opened = common.counters(common.client)
  until opened >= tuples or waited >= 600
  pktgen.set(common.client, "count", 0)
  local sent, received = common.trial(rate, seconds)
  common.report("ramp", { flows = tuples, sent = sent, received = received, mpps = received / seconds / 1e6, loss = common.loss(sent, received) })
  if flows >= last then break end
  flows = math.min(flows * 10, last)
end
os.exit(0)
