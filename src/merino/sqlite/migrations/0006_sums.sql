-- Sums are kept with the calls from now on; what was still to be summed up is counted here.

INSERT INTO call_sums
SELECT 0, at_ms / 300000, account_id, key_id, alias, deployment, count(*), sum(status >= 400 AND status < 500),
    sum(status >= 500), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos)
FROM calls WHERE row > (SELECT value FROM meta WHERE name = 'summed_row') GROUP BY 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
    calls = calls + excluded.calls, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    charged_nanos = charged_nanos + excluded.charged_nanos,
    upstream_nanos = upstream_nanos + excluded.upstream_nanos;

INSERT INTO call_sums
SELECT 1, at_ms / 3600000, account_id, key_id, alias, deployment, count(*), sum(status >= 400 AND status < 500),
    sum(status >= 500), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos)
FROM calls WHERE row > (SELECT value FROM meta WHERE name = 'summed_row') GROUP BY 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
    calls = calls + excluded.calls, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    charged_nanos = charged_nanos + excluded.charged_nanos,
    upstream_nanos = upstream_nanos + excluded.upstream_nanos;

INSERT INTO call_sums
SELECT 2, at_ms / 86400000, account_id, key_id, alias, deployment, count(*), sum(status >= 400 AND status < 500),
    sum(status >= 500), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos)
FROM calls WHERE row > (SELECT value FROM meta WHERE name = 'summed_row') GROUP BY 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
    calls = calls + excluded.calls, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    charged_nanos = charged_nanos + excluded.charged_nanos,
    upstream_nanos = upstream_nanos + excluded.upstream_nanos;

INSERT INTO call_sums
SELECT 3, at_ms / 3600000, account_id, '', '', '', count(*), sum(status >= 400 AND status < 500),
    sum(status >= 500), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos)
FROM calls WHERE row > (SELECT value FROM meta WHERE name = 'summed_row') GROUP BY 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
    calls = calls + excluded.calls, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    charged_nanos = charged_nanos + excluded.charged_nanos,
    upstream_nanos = upstream_nanos + excluded.upstream_nanos;

DELETE FROM meta WHERE name = 'summed_row';
