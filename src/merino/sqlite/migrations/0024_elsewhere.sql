-- What other models used for a call, which is in none of its counts: Anthropic's `iterations`.

ALTER TABLE calls ADD COLUMN elsewhere TEXT;
