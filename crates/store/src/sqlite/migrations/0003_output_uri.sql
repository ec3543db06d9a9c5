-- Results that are written to S3.

ALTER TABLE job ADD COLUMN output_uri TEXT;           -- the object that the result is written to
