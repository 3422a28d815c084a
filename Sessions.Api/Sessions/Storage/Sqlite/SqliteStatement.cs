using System.Buffers;
using System.Text;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Api;

/// <summary>
/// A statement that is prepared once and run many times. Straight on SQLite's own calls, below <see cref="SqliteCommand"/>, which boxes every
/// parameter: the writer is one thread, and what it spends on a statement all turns wait for.
/// </summary>
internal sealed class SqliteStatement : IDisposable
{
    private readonly sqlite3 _db;
    private readonly sqlite3_stmt _statement;
    private int _bound;

    public SqliteStatement(sqlite3 db, string sql)
    {
        _db = db;
        Check(raw.sqlite3_prepare_v3(db, sql, raw.SQLITE_PREPARE_PERSISTENT, out _statement));
    }

    /// <summary>Gives the next parameter its value.</summary>
    public SqliteStatement Bind(long? value) =>
        Bound(value is { } number ? raw.sqlite3_bind_int64(_statement, ++_bound, number) : raw.sqlite3_bind_null(_statement, ++_bound));

    /// <inheritdoc cref="Bind(long?)"/>
    public SqliteStatement Bind(string? value)
    {
        if (value is null)
        {
            return Bound(raw.sqlite3_bind_null(_statement, ++_bound));
        }

        if (value.Length == 0)
        {
            return Bound(raw.sqlite3_bind_text(_statement, ++_bound, ""));
        }

        // With its length, so that a NUL character is one like any other.
        var most = Encoding.UTF8.GetMaxByteCount(value.Length);
        byte[]? rented = null;
        var bytes = most <= 1024 ? stackalloc byte[most] : rented = ArrayPool<byte>.Shared.Rent(most);
        var code = raw.sqlite3_bind_text(_statement, ++_bound, bytes[..Encoding.UTF8.GetBytes(value, bytes)]);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }

        return Bound(code);
    }

    /// <inheritdoc cref="Bind(long?)"/>
    public SqliteStatement Bind(Utf8Text value) =>
        Bound(value.Length == 0 ? raw.sqlite3_bind_text(_statement, ++_bound, "") : raw.sqlite3_bind_text(_statement, ++_bound, value.Span));

    /// <inheritdoc cref="Bind(long?)"/>
    public SqliteStatement Bind(Utf8Text? value) => value is { } text ? Bind(text) : Bound(raw.sqlite3_bind_null(_statement, ++_bound));

    /// <summary>Gives the next parameter its value: bytes, or nothing where there are none.</summary>
    public SqliteStatement Bind(ReadOnlySpan<byte> value) =>
        Bound(value.IsEmpty ? raw.sqlite3_bind_null(_statement, ++_bound) : raw.sqlite3_bind_blob(_statement, ++_bound, value));

    /// <inheritdoc cref="Bind(long?)"/>
    public SqliteStatement Bind(Guid? value)
    {
        if (value is not { } guid)
        {
            return Bound(raw.sqlite3_bind_null(_statement, ++_bound));
        }

        Span<byte> bytes = stackalloc byte[16];
        guid.TryWriteBytes(bytes);
        return Bind(bytes);
    }

    /// <summary>Runs the statement to its end.</summary>
    /// <returns>How many rows it changed.</returns>
    public int Run()
    {
        using var rows = Read();
        while (rows.Next())
        {
        }

        return raw.sqlite3_changes(_db);
    }

    /// <summary>Runs the statement for its rows. Until they are disposed of they hold the state of the database that they show.</summary>
    public Rows Read() => new(this);

    public void Dispose() => _statement.Dispose();

    private SqliteStatement Bound(int code)
    {
        Check(code);
        return this;
    }

    private void Check(int code)
    {
        if (code is not (raw.SQLITE_OK or raw.SQLITE_ROW or raw.SQLITE_DONE))
        {
            _bound = 0;
            SqliteException.ThrowExceptionForRC(code, _db);
        }
    }

    private bool Step()
    {
        var code = raw.sqlite3_step(_statement);
        Check(code);
        return code == raw.SQLITE_ROW;
    }

    private void Reset()
    {
        _bound = 0;
        raw.sqlite3_reset(_statement);
        raw.sqlite3_clear_bindings(_statement);
    }

    /// <summary>The rows of a statement, one after the other.</summary>
    public readonly ref struct Rows(SqliteStatement statement)
    {
        private readonly sqlite3_stmt _row = statement._statement;

        public bool Next() => statement.Step();

        public bool IsNull(int column) => raw.sqlite3_column_type(_row, column) == raw.SQLITE_NULL;

        public long Long(int column) => raw.sqlite3_column_int64(_row, column);

        public int Int(int column) => raw.sqlite3_column_int(_row, column);

        public long? LongOrNull(int column) => IsNull(column) ? null : Long(column);

        public string Text(int column) => Encoding.UTF8.GetString(raw.sqlite3_column_blob(_row, column));

        public Utf8Text Utf8(int column) => new(Bytes(column));

        public string? TextOrNull(int column) => IsNull(column) ? null : Text(column);

        public byte[] Bytes(int column) => raw.sqlite3_column_blob(_row, column).ToArray();

        public Guid? GuidOrNull(int column) => IsNull(column) ? null : new Guid(raw.sqlite3_column_blob(_row, column));

        public void Dispose() => statement.Reset();
    }
}
