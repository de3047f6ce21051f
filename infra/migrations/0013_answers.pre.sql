-- What a response says where it has no file: the device reads it here when the event that carried it is gone.
ALTER TABLE responses ADD COLUMN answer json;
