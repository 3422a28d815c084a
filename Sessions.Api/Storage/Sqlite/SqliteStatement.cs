using System.Buffers;
using System.Text;
using System.Text.Unicode;
using Microsoft.Data.Sqlite;
using Sessions.Api.Domain;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>
/// A statement that is prepared once and run many times. Straight on SQLite's own calls, below <see cref="SqliteCommand"/>, which boxes
/// every parameter: the writer is one thread, and what it spends on a statement all turns wait for.
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

    /// <summary>Gives the next parameter its value, where there is one more.</summary>
    public SqliteStatement BindIf(bool isThere, long value) => isThere ? Bind(value) : this;

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
        var max = Encoding.UTF8.GetMaxByteCount(value.Length);
        byte[]? rented = null;
        var bytes = max <= 1024 ? stackalloc byte[max] : rented = ArrayPool<byte>.Shared.Rent(max);
        var code = raw.sqlite3_bind_text(_statement, ++_bound, bytes[..Encoding.UTF8.GetBytes(value, bytes)]);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }

        return Bound(code);
    }

    /// <summary>Gives the next two parameters their values: a text where these bytes are one, else bytes.</summary>
    /// <param name="value">The bytes.</param>
    /// <param name="isText">Whether they are meant to be a text: it is one if it is UTF-8, which what is sealed is not.</param>
    /// <param name="isNullable">Whether the column for texts may be without one.</param>
    public SqliteStatement BindTextOrBytes(ReadOnlySpan<byte> value, bool isText = true, bool isNullable = false)
    {
        if (isText && Utf8.IsValid(value))
        {
            Bound(value.IsEmpty ? raw.sqlite3_bind_text(_statement, ++_bound, "") : raw.sqlite3_bind_text(_statement, ++_bound, value));
            return Bind((long?)null);
        }

        Bound(isNullable ? raw.sqlite3_bind_null(_statement, ++_bound) : raw.sqlite3_bind_text(_statement, ++_bound, ""));
        return Bind(value);
    }

    /// <inheritdoc cref="BindTextOrBytes(ReadOnlySpan{byte}, bool, bool)"/>
    public SqliteStatement BindTextOrBytes(Utf8Text? value) =>
        value is { } text ? BindTextOrBytes(text.Span, isNullable: true) : Bind((long?)null).Bind((long?)null);

    /// <summary>Gives the next parameter its value: bytes, or nothing where there are none.</summary>
    public SqliteStatement Bind(ReadOnlySpan<byte> value) =>
        Bound(value.IsEmpty ? raw.sqlite3_bind_null(_statement, ++_bound) : raw.sqlite3_bind_blob(_statement, ++_bound, value));

    /// <summary>Gives the next parameter its value: bytes as they are in a row, also where there are none.</summary>
    public SqliteStatement BindRaw(ReadOnlySpan<byte> value) =>
        value.IsEmpty ? Bound(raw.sqlite3_bind_zeroblob(_statement, ++_bound, 0)) : Bind(value);

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

        public string? TextOrNull(int column) => IsNull(column) ? null : Text(column);

        public byte[] Bytes(int column) => raw.sqlite3_column_blob(_row, column).ToArray();

        /// <summary>The bytes where they lie: until the next row.</summary>
        public ReadOnlySpan<byte> Span(int column) => raw.sqlite3_column_blob(_row, column);

        /// <exception cref="ArgumentException">There is something else.</exception>
        public Guid? GuidOrNull(int column) => IsNull(column) ? null : new Guid(raw.sqlite3_column_blob(_row, column));

        public void Dispose() => statement.Reset();
    }
}
