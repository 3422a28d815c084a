using Microsoft.Data.Sqlite;

namespace Sessions.Bench.Sqlite;

/// <summary>
/// What ours is measured against: the straightforward store. One connection, one transaction for each append, the turn and its session's
/// row, prepared
/// commands, the same file format, <c>journal_mode=WAL</c> and <c>synchronous=FULL</c>.
/// </summary>
internal sealed class PlainLoop : IDisposable
{
    private readonly SqliteConnection _connection;
    private readonly SqliteCommand _insert;
    private readonly SqliteCommand _update;
    private readonly SqliteCommand _select;

    public PlainLoop(string path)
    {
        _connection = new SqliteConnection($"Data Source={path};Pooling=False");
        _connection.Open();
        Execute("""
            PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE sessions (id TEXT PRIMARY KEY, user_id TEXT, last_activity_at INTEGER, expires_at INTEGER, turn_count INTEGER);
            CREATE INDEX by_user ON sessions (user_id, last_activity_at);
            CREATE INDEX by_expiry ON sessions (expires_at);
            CREATE TABLE turns (session_id TEXT, number INTEGER, created_at INTEGER, query TEXT, response TEXT,
                PRIMARY KEY (session_id, number));
            """);
        _insert = Prepare(
            "INSERT INTO turns SELECT id, turn_count + 1, $now, $query, $response FROM sessions WHERE id = $id",
            "$id", "$now", "$query", "$response");
        _update = Prepare(
            "UPDATE sessions SET turn_count = turn_count + 1, last_activity_at = $now, expires_at = $now + 86400000000 WHERE id = $id",
            "$id", "$now");
        _select = Prepare(
            "SELECT s.*, t.* FROM sessions s LEFT JOIN turns t ON t.session_id = s.id AND t.number = s.turn_count WHERE s.id = $id", "$id");
    }

    public void Create(string id)
    {
        using var command = Prepare("INSERT INTO sessions VALUES ($id, $id, 0, 0, 0)", "$id");
        command.Parameters[0].Value = id;
        command.ExecuteNonQuery();
    }

    public string? Read(string id)
    {
        _select.Parameters[0].Value = id;
        using var reader = _select.ExecuteReader();
        return reader.Read() && !reader.IsDBNull(9) ? reader.GetString(9) : null;
    }

    public void Append(string id, string query, string response)
    {
        using var transaction = _connection.BeginTransaction(deferred: false);
        _insert.Transaction = _update.Transaction = transaction;
        _insert.Parameters[0].Value = _update.Parameters[0].Value = id;
        _insert.Parameters[1].Value = _update.Parameters[1].Value = DateTimeOffset.UtcNow.Ticks / 10;
        _insert.Parameters[2].Value = query;
        _insert.Parameters[3].Value = response;
        _insert.ExecuteNonQuery();
        _update.ExecuteNonQuery();
        transaction.Commit();
    }

    public void Dispose()
    {
        _insert.Dispose();
        _update.Dispose();
        _select.Dispose();
        _connection.Dispose();
    }

    private void Execute(string sql)
    {
        using var command = _connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private SqliteCommand Prepare(string sql, params string[] parameters)
    {
        var command = _connection.CreateCommand();
        command.CommandText = sql;
        foreach (var parameter in parameters)
        {
            command.Parameters.Add(new SqliteParameter { ParameterName = parameter });
        }

        return command;
    }
}
