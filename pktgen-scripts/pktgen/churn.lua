-- Long-lived connections with churn: FLOWS stay and are used all the time, while on the second port range CHURN new ones a
-- step come and are left to expire.
--
-- POLLUX_FLOWS    long-lived (100000)
-- POLLUX_CHURN    short-lived, each step (10000)
-- POLLUX_STEPS    (10)
-- POLLUX_RATE     percent of the link (10)
-- POLLUX_SECONDS  of a step (10)

package.path = package.path .. ";" .. debug.getinfo(1, "S").source:sub(2):match("^(.-)[^/]*$") .. "?.lua"
local common = require("common")

local flows = common.number("FLOWS", 100000)
local churn = common.number("CHURN", 10000)
local rate = common.number("RATE", 10)
local seconds = common.number("SECONDS", 10)
local first = common.first_client

for round = 1, common.number("STEPS", 10) do
  common.first_client = first
  common.prepare("udp", 64)
  common.range("udp", 64, flows)
  local sent, received = common.trial(rate, seconds)
  -- Other clients each time, behind the long-lived ones.
  local clients = common.tuples(flows)
  common.first_client = common.address(first, clients + (round - 1) * common.tuples(churn))
  common.prepare("udp", 64)
  common.range("udp", 64, churn)
  local more, passed = common.trial(rate, 1)
  common.report("churn", { step = round, sent = sent, received = received, loss = common.loss(sent, received), new_sent = more, new_received = passed })
end
os.exit(0)
