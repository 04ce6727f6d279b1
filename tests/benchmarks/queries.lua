-- wrk's part of the query endpoint benchmark: one repeated statement, or a different one for each request.
-- Its arguments are a file with the token, and `repeated` or `distinct`.

local statement = "SELECT day, count(*) AS hours, max(high) AS high, min(low) AS low, sum(volume) AS volume FROM gold.bench_sample "
  .. "WHERE volume > %d.%06d GROUP BY day ORDER BY volume DESC LIMIT 20"
local distinct = false
local sent = 0
local seed = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "r"))
  wrk.headers["Authorization"] = "Bearer " .. file:read("*l")
  file:close()
  wrk.headers["Content-Type"] = "application/json"
  wrk.method = "POST"
  distinct = arguments[2] == "distinct"
  seed = os.time() % 1000
end

function request()
  if distinct then sent = sent + 1 end
  local body = string.format('{"sql": "' .. statement .. '"}', distinct and seed or 100, sent)
  return wrk.format(nil, "/v1/query", nil, body)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{"requests": %d, "failed": %d, "took_s": %.3f, "p50_ms": %.3f, "p95_ms": %.3f}\n',
    summary.requests, failed, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(95) / 1000))
end
