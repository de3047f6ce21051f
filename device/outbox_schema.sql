-- What waits to be sent, in order.
CREATE TABLE queue (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    op_id TEXT NOT NULL UNIQUE,
    entity_id TEXT NOT NULL,
    body TEXT NOT NULL, -- as it goes out, without a base_version
    size INTEGER NOT NULL, -- of the body, in bytes
    base_version INTEGER,
    after_op_id TEXT, -- whose result gives base_version
    digest BLOB NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    due_at REAL, -- not to be sent before, by the wall clock
    pause_s REAL -- how far ahead that was when it was written
);

-- What the application has not taken yet, in order.
CREATE TABLE results (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    op_id TEXT NOT NULL UNIQUE,
    answer TEXT NOT NULL,
    operation TEXT NOT NULL,
    size INTEGER NOT NULL, -- of both, in bytes
    is_given INTEGER NOT NULL DEFAULT 0
);

-- The last ones that nothing will be sent of any more.
CREATE TABLE settled (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    op_id TEXT NOT NULL UNIQUE,
    entity_id TEXT NOT NULL,
    version INTEGER, -- the entity's after it, null when it had no effect
    digest BLOB NOT NULL
);

-- How long everything waits.
CREATE TABLE wait (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    tries INTEGER NOT NULL,
    due_at REAL,
    pause_s REAL,
    soft INTEGER NOT NULL
);

-- Whose operations these are.
CREATE TABLE device (device_id TEXT NOT NULL);
