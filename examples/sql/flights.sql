-- The flights that left New York in a week of February 2013, with a blizzard in it.
--
--     headwater run --batch examples/sql/flights.sql
--
-- answers from the file as it is. The example `flights` replays the same file as a stream, hour by hour, through the
-- same queries, and shows that the answers agree. Paths are relative to where the command runs.

CREATE TABLE flights (
    year INT, month INT, day INT,
    dep_time INT, sched_dep_time INT, dep_delay DOUBLE,
    arr_time INT, sched_arr_time INT, arr_delay DOUBLE,
    carrier VARCHAR, flight INT, tailnum VARCHAR, origin VARCHAR, dest VARCHAR,
    air_time DOUBLE, distance DOUBLE, hour INT, minute INT,
    time_hour TIMESTAMP,
    WATERMARK FOR time_hour AS time_hour - INTERVAL '1' HOUR
) WITH (
    connector = 'filesystem', path = 'examples/data/nycflights13/flights.csv.gz', format = 'csv',
    header = 'true', 'csv.null-literal' = 'NA', mode = 'batch'
);

CREATE TABLE airlines (carrier VARCHAR, name VARCHAR) WITH (
    connector = 'filesystem', path = 'examples/data/nycflights13/airlines.csv', format = 'csv', header = 'true'
);

CREATE TABLE planes (
    tailnum VARCHAR, year INT, type VARCHAR, manufacturer VARCHAR, model VARCHAR,
    engines INT, seats INT, speed INT, engine VARCHAR
) WITH (
    connector = 'filesystem', path = 'examples/data/nycflights13/planes.csv', format = 'csv',
    header = 'true', 'csv.null-literal' = 'NA'
);

-- The queries.

CREATE MATERIALIZED VIEW carrier_days AS
SELECT a.name AS airline, date_trunc('day', f.time_hour) AS day,
       count(*) AS flights,
       count(*) FILTER (WHERE f.dep_time IS NULL) AS cancelled,
       avg(f.dep_delay) AS mean_dep_delay,
       avg(f.arr_delay) AS mean_arr_delay,
       max(f.arr_delay) AS worst_arr_delay
FROM flights f JOIN airlines a ON f.carrier = a.carrier
GROUP BY a.name, date_trunc('day', f.time_hour);

CREATE MATERIALIZED VIEW makers AS
SELECT coalesce(p.manufacturer, 'unknown') AS manufacturer,
       count(*) AS flights,
       count(DISTINCT f.tailnum) AS planes,
       avg(f.arr_delay) AS mean_arr_delay
FROM flights f LEFT JOIN planes p ON f.tailnum = p.tailnum
GROUP BY coalesce(p.manufacturer, 'unknown');

CREATE MATERIALIZED VIEW six_hours AS
SELECT window(time_hour, '6 hours', '1 hour') AS hours, origin,
       count(*) AS flights, avg(dep_delay) AS mean_dep_delay
FROM flights
GROUP BY window(time_hour, '6 hours', '1 hour'), origin;

CREATE MATERIALIZED VIEW worst_routes AS
SELECT origin, dest, count(arr_delay) AS arrived, avg(arr_delay) AS mean_arr_delay
FROM flights
GROUP BY origin, dest
HAVING count(arr_delay) >= 10
ORDER BY mean_arr_delay DESC, origin, dest
LIMIT 10;

CREATE MATERIALIZED VIEW cancelled AS
SELECT date_trunc('day', time_hour) AS day, origin, count(*) AS flights
FROM flights
WHERE dep_time IS NULL
GROUP BY date_trunc('day', time_hour), origin;

SELECT * FROM worst_routes ORDER BY mean_arr_delay DESC, origin, dest;

SELECT day, sum(flights) AS cancelled FROM cancelled GROUP BY day ORDER BY day;
