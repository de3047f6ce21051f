-- name: reserve
-- Put an amount aside for one row of today, if it still fits below the bound. now() is the transaction's: both rows of one call get one day.
INSERT INTO model_usage AS u (device_id, day, reserved_micros)
SELECT $1::text, (now() AT TIME ZONE 'UTC')::date, $2::bigint WHERE $2::bigint <= $3::bigint
ON CONFLICT (device_id, day) DO UPDATE SET reserved_micros = u.reserved_micros + EXCLUDED.reserved_micros
WHERE u.cost_micros + u.reserved_micros + EXCLUDED.reserved_micros <= $3::bigint
RETURNING u.device_id

-- name: add_call
-- The call that the amount was put aside for.
INSERT INTO model_calls (call_id, job_id, device_id, day, reserved_micros)
VALUES ($1, $2, $3, (now() AT TIME ZONE 'UTC')::date, $4)

-- name: settle
-- Once for each call; the device's row before the sum of all, as in a reservation. A cost that is not given is what was reserved.
WITH call AS (
    UPDATE model_calls SET settled_at = clock_timestamp(), outcome = $2, tokens_in = $3, tokens_out = $4,
           cost_micros = coalesce($5, reserved_micros), answer = $6
    WHERE call_id = $1 AND settled_at IS NULL
    RETURNING device_id, day, reserved_micros, tokens_in, tokens_out, cost_micros
), of_device AS (
    UPDATE model_usage u SET calls = u.calls + 1, tokens_in = u.tokens_in + c.tokens_in, tokens_out = u.tokens_out + c.tokens_out,
           cost_micros = u.cost_micros + c.cost_micros, reserved_micros = u.reserved_micros - c.reserved_micros
    FROM call c WHERE u.device_id = c.device_id AND u.day = c.day
    RETURNING c.day, c.reserved_micros, c.tokens_in, c.tokens_out, c.cost_micros
), of_all AS (
    UPDATE model_usage u SET calls = u.calls + 1, tokens_in = u.tokens_in + c.tokens_in, tokens_out = u.tokens_out + c.tokens_out,
           cost_micros = u.cost_micros + c.cost_micros, reserved_micros = u.reserved_micros - c.reserved_micros
    FROM of_device c WHERE u.device_id = '' AND u.day = c.day
    RETURNING c.cost_micros
)
SELECT cost_micros FROM of_all

-- name: answered
-- What an earlier attempt of the job was answered.
SELECT answer, tokens_in, tokens_out, cost_micros FROM model_calls
WHERE job_id = $1 AND outcome = 'answered' AND answer IS NOT NULL
ORDER BY settled_at LIMIT 1

-- name: usage
SELECT device_id, day, calls, tokens_in, tokens_out, cost_micros, reserved_micros FROM model_usage
WHERE device_id = $1 AND day = coalesce($2, (clock_timestamp() AT TIME ZONE 'UTC')::date)

-- name: lost
-- Calls that nobody settled: whoever made them is gone.
SELECT call_id FROM model_calls
WHERE settled_at IS NULL AND reserved_at < clock_timestamp() - make_interval(secs => $1)
ORDER BY reserved_at LIMIT $2

-- name: prune
-- Old calls, with their answers; the sums stay.
DELETE FROM model_calls WHERE call_id IN (
    SELECT call_id FROM model_calls
    WHERE reserved_at < clock_timestamp() - make_interval(secs => $1) AND settled_at IS NOT NULL
    ORDER BY reserved_at LIMIT $2
)
RETURNING call_id
