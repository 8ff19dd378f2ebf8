-- Distinct visitors by region, exactly: over all time, and in each minute.
--
--     headwater run examples/sql/visitors.sql
--
-- follows a feed of 100,000 visits a second for half a minute (or until Ctrl-C), whose event times are up to 3 s out of
-- order, and prints the answer. The example `visitors` shows the same queries live, archives the feed as Parquet, and
-- compares the answers with those of a batch run over the archive.

CREATE TABLE visits (
    user_id BIGINT,
    region VARCHAR,
    ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10' SECOND
) WITH (
    connector = 'datagen',
    'rows-per-second' = '100000',
    'number-of-rows' = '3000000',
    disorder = '3 s',
    'fields.user_id.distinct' = '1000000',
    'fields.region.values' = 'Africa,Asia,Europe,North America,Oceania,South America'
);

-- The queries.

CREATE MATERIALIZED VIEW visitors AS
SELECT region, count(DISTINCT user_id) AS visitors
FROM visits
GROUP BY region;

CREATE MATERIALIZED VIEW visitors_per_minute AS
SELECT window(ts, '1 minute') AS minute, region, count(DISTINCT user_id) AS visitors
FROM visits
GROUP BY window(ts, '1 minute'), region;

SELECT * FROM visitors ORDER BY region;
