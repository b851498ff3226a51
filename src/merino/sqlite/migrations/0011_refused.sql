-- Why a call failed, and the parts of its usage that have prices of their own.

ALTER TABLE calls ADD COLUMN error_message TEXT;
ALTER TABLE calls ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN audio_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN audio_output_tokens INTEGER NOT NULL DEFAULT 0;

-- How long a batch's results are to be kept, if its order says so.
ALTER TABLE batches ADD COLUMN output_expires_after_s INTEGER;
