-- What model calls cost: a sum for each device and day, one for all together, and the calls themselves.

-- The day is UTC's. The row with an empty device_id is the sum over all. No reference to devices: an append holds their rows.
CREATE TABLE model_usage (
    device_id       text COLLATE "C" NOT NULL,
    day             date NOT NULL,
    calls           bigint NOT NULL DEFAULT 0,
    tokens_in       bigint NOT NULL DEFAULT 0,
    tokens_out      bigint NOT NULL DEFAULT 0,
    cost_micros     bigint NOT NULL DEFAULT 0,
    reserved_micros bigint NOT NULL DEFAULT 0 CHECK (reserved_micros >= 0),
    PRIMARY KEY (device_id, day)
) WITH (fillfactor = 50);

-- Reserved before it is sent, settled once after. The answer is kept so that another attempt of the job need not ask again.
CREATE TABLE model_calls (
    call_id         uuid PRIMARY KEY,
    job_id          uuid NOT NULL,
    device_id       text COLLATE "C" NOT NULL,
    day             date NOT NULL,
    reserved_micros bigint NOT NULL,
    reserved_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at      timestamptz,
    outcome         text CHECK (outcome IN ('answered', 'unknown', 'free')),
    tokens_in       bigint NOT NULL DEFAULT 0,
    tokens_out      bigint NOT NULL DEFAULT 0,
    cost_micros     bigint NOT NULL DEFAULT 0,
    answer          text,
    CHECK ((settled_at IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX model_calls_job ON model_calls (job_id) WHERE outcome = 'answered';
CREATE INDEX model_calls_open ON model_calls (reserved_at) WHERE settled_at IS NULL;
CREATE INDEX model_calls_age ON model_calls (reserved_at);
