-- Results that are written to S3.

ALTER TABLE job ADD COLUMN output_uri text;             -- the object that the result is written to
