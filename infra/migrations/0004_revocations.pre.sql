-- A token's id says which token of its subject is meant: two issuers may have given the same id to two devices. Until
-- the primary key has followed, in the post file, an id can be revoked for one subject only.
CREATE UNIQUE INDEX revoked_tokens_subject ON revoked_tokens (subject, token_id);
