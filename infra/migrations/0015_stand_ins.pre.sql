-- A file that was told before its folder keeps the version that its content had before its provider knew its hash.

ALTER TABLE cloud_unplaced ADD COLUMN stand_in text;
