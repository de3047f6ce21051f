-- Processes of the release before write revocations by the old key, so it goes when they have gone.
ALTER TABLE revoked_tokens
    DROP CONSTRAINT revoked_tokens_pkey,
    ADD CONSTRAINT revoked_tokens_pkey PRIMARY KEY USING INDEX revoked_tokens_subject;
