-- Throughput (RFC 2544 §26.1): the highest rate at which no more is lost than allowed, for each frame size, by bisection.
--
-- POLLUX_SIZES    frame sizes with FCS, bytes (64,128,256,512,1024,1280,1518)
-- POLLUX_LOSS     share that may be lost (0: none at all; 0.005 on machines that others use, too)
-- POLLUX_SECONDS  of a trial (10; RFC 2544 asks for 60 in the last)
-- POLLUX_STEP     percent of the link at which the search ends (0.5)
-- POLLUX_FLOWS    different connections (10000)

package.path = package.path .. ";" .. debug.getinfo(1, "S").source:sub(2):match("^(.-)[^/]*$") .. "?.lua"
local common = require("common")

local allowed = common.number("LOSS", 0)
local seconds = common.number("SECONDS", 10)
local step = common.number("STEP", 0.5)
local flows = common.number("FLOWS", 10000)

for size in common.text("SIZES", "64,128,256,512,1024,1280,1518"):gmatch("%d+") do
  common.prepare("udp", tonumber(size))
  common.range("udp", tonumber(size), flows)
  common.trial(10, 2) -- opens the connections, resolves neighbours: not counted
  local low, high, best = 0, 100, nil
  local rate = 100
  while high - low > step do
    local sent, received = common.trial(rate, seconds)
    local loss = common.loss(sent, received)
    common.report("trial", { size = size, rate = rate, sent = sent, received = received, loss = loss })
    if sent > 0 and loss <= allowed then
      low, best = rate, { mpps = received / seconds / 1e6, rate = rate }
      if rate == 100 then break end
    else
      high = rate
    end
    rate = (low + high) / 2
  end
  if best then
    common.report("throughput", { size = size, rate = best.rate, mpps = best.mpps })
  else
    common.report("throughput", { size = size, rate = 0, mpps = 0 })
  end
end
os.exit(0)
