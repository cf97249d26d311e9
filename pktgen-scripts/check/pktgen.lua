-- Runs a script against a Pktgen that is none: every call is checked (name, number of arguments, ports, values) and the
-- "device under test" loses what is above its capacity. Lua 5.4, as Pktgen has it: lua5.4 pktgen.lua old|new SCRIPT
--
-- `old` and `new`: how portStats answers, before and after it lost its second argument.

local api_kind, script = arg[1], arg[2]
local CAPACITY = 37 -- percent of the link that gets through

-- name = number of arguments, or {least, most}
local functions = {
  stop = 1, start = 1, reset = 1, clear = 1, screen = 1, delay = 1, set = 3, set_type = 2, set_proto = 2, set_mac = 3, set_ipaddr = 3,
  set_tcp_flags = 2, set_range = 2, rnd_s_ip = 2, rnd_s_pt = 2, seqTable = 3,
  portStats = api_kind == "old" and 2 or 1,
}
local range = {
  ip_proto = 2, dst_mac = 3, src_ip = 3, dst_ip = 3, src_port = 3, dst_port = 3, pkt_size = 3,
}
local settings = { count = true, size = true, rate = true, sport = true, dport = true, seq_cnt = true }
local bounds = { start = true, min = true, max = true, inc = true }

local state = { rate = 100, count = 0, sent = 0, received = 0, running = false, sizes = {} }
calls = {}

local function is_address(text) return type(text) == "string" and text:match("^%d+%.%d+%.%d+%.%d+[/%d]*$") ~= nil end

local act = {}
function act.set(_, what, value)
  assert(settings[what], "set: no such setting: " .. tostring(what))
  assert(type(value) == "number", "set " .. what .. ": no number")
  if what == "rate" then
    assert(value > 0 and value <= 100, "rate is no percentage: " .. value)
    state.rate = value
  elseif what == "count" then
    state.count = value
  elseif what == "size" then
    assert(value >= 64 and value <= 1518, "no frame size: " .. value)
  end
end
function act.set_ipaddr(_, which, address)
  assert(which == "src" or which == "dst", "set_ipaddr: " .. tostring(which))
  assert(is_address(address), "set_ipaddr: no address: " .. tostring(address))
  assert(which ~= "src" or address:match("/%d+$"), "set_ipaddr src wants a prefix length")
end
function act.set_proto(_, proto) assert(({ udp = 1, tcp = 1, icmp = 1 })[proto], "set_proto: " .. tostring(proto)) end
function act.set_type(_, kind) assert(kind == "ipv4" or kind == "ipv6", "set_type: " .. tostring(kind)) end
function act.set_tcp_flags(_, flags) assert(flags == "syn", "set_tcp_flags: " .. tostring(flags)) end
function act.seqTable(index, _, packet)
  assert(index >= 0 and index < 16, "seqTable: index " .. index)
  assert(is_address(packet.ip_dst_addr) and is_address(packet.ip_src_addr), "seqTable: addresses")
  assert(packet.ethType == "ipv4" and packet.ipProto == "udp" and packet.tcp_flags, "seqTable: type")
  for _, field in ipairs({ "sport", "dport", "pktSize" }) do
    assert(math.type(packet[field]) == "integer", "seqTable: " .. field .. " is no integer")
  end
end
function act.start() state.running = true end
function act.stop() state.running = false end
function act.clear() state.sent, state.received = 0, 0 end
function act.delay(ms)
  assert(math.type(ms) == "integer" and ms > 0, "delay: no whole milliseconds")
  if not state.running then return end
  local packets = math.floor(state.rate * 1000 * ms)
  if state.count > 0 then packets = state.count - state.sent end
  state.sent = state.sent + packets
  state.received = state.received + math.floor(packets * math.min(1, CAPACITY / state.rate))
end
function act.portStats(port)
  local mine = port == "0" and { ipackets = 0, opackets = state.sent } or { ipackets = state.received, opackets = 0 }
  return { [tonumber(port)] = api_kind == "old" and mine or { curr = mine }, n = 1 }
end

local function table_of(names, prefix, extra)
  return setmetatable({}, {
    __index = function(_, name)
      if extra and extra[name] then return extra[name] end
      local arguments = names[name] or error("Pktgen has no " .. prefix .. name, 2)
      return function(...)
        local n = select("#", ...)
        -- As luaL_error does: an error that can be caught.
        if n ~= arguments then error(prefix .. name .. ", wrong number of arguments: " .. n, 2) end
        calls[#calls + 1] = prefix .. name
        if prefix == "range." and name ~= "ip_proto" then
          local _, bound, value = ...
          assert(bounds[bound], "range: no such bound: " .. tostring(bound))
          if name:match("_ip$") then
            assert(is_address(value), "range: no address: " .. tostring(value))
          elseif name:match("_port$") or name == "pkt_size" then
            assert(math.type(value) == "integer", "range." .. name .. ": no integer: " .. tostring(value))
            assert(value >= 0 and value <= 65535, "range." .. name .. ": " .. value)
          end
        end
        if prefix == "pktgen." and act[name] then return act[name](...) end
      end
    end,
  })
end
pktgen = table_of(functions, "pktgen.", { range = table_of(range, "range.") })

local left = false
os.exit = function(status)
  assert(status == 0, "leaves with " .. tostring(status))
  left = true
  error("left", 0)
end
local ok, message = pcall(dofile, script)
if left then
  assert(#calls > 10, "hardly did anything")
  io.stderr:write(#calls, " calls\n")
else
  io.stderr:write(ok and "does not leave Pktgen at its end" or tostring(message), "\n")
  -- Not through our own os.exit.
  error("failed")
end
