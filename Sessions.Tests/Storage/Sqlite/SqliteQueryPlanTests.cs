using System.Reflection;
using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>Every statement finds what it needs by an index, whatever the size of the file.</summary>
public sealed class SqliteQueryPlanTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public static TheoryData<string> Statements => [.. typeof(SqliteSql).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Where(constant => constant.IsLiteral).Select(constant => constant.Name)];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Statements))]
    public void No_statement_walks_a_table_or_sorts(string name)
    {
        var sql = (string)typeof(SqliteSql).GetField(name)!.GetRawConstantValue()!;
        var path = _folder["plan.db"];
        using var db = SqliteFile.Prepare(path).OpenReader();

        foreach (var step in Plan(db, sql))
        {
            // Nothing is read where a constant row is inserted.
            Assert.True(!step.StartsWith("SCAN", StringComparison.Ordinal) || step == "SCAN CONSTANT ROW", $"{step}: {sql}");
            Assert.DoesNotContain("TEMP B-TREE", step, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Statements))]
    public void No_statement_is_prepared_anew_for_other_values(string name)
    {
        // SQLITE_STMTSTATUS_REPREPARE
        const int Repreparations = 5;
        var sql = (string)typeof(SqliteSql).GetField(name)!.GetRawConstantValue()!;
        using var db = SqliteFile.Prepare(_folder["plan.db"]).OpenReader();
        var statement = db[sql];
        foreach (var value in (string?[])["1", "2", null, "a"])
        {
            for (var i = raw.sqlite3_bind_parameter_count(HandleOf(statement)); i > 0; i--)
            {
                statement.Bind(value);
            }

            try
            {
                statement.Run();
            }
            catch (SqliteException)
            {
                // Nothing can be written here; it was prepared before that.
            }
        }

        Assert.Equal(0, raw.sqlite3_stmt_status(HandleOf(statement), Repreparations, 0));
    }

    [Fact]
    public void A_walk_would_be_seen()
    {
        using var db = SqliteFile.Prepare(_folder["plan.db"]).OpenReader();
        var steps = Plan(db, "SELECT * FROM sessions WHERE last_error = 'x' ORDER BY version");

        Assert.Contains(steps, step => step.StartsWith("SCAN", StringComparison.Ordinal));
        Assert.Contains(steps, step => step.Contains("TEMP B-TREE", StringComparison.Ordinal));
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_statement")]
    private static extern ref sqlite3_stmt HandleOf(SqliteStatement statement);

    private static List<string> Plan(SqliteDatabase db, string sql)
    {
        const int Detail = 3;
        List<string> steps = [];
        using var rows = db["EXPLAIN QUERY PLAN " + sql].Read();
        while (rows.Next())
        {
            steps.Add(rows.Text(Detail));
        }

        return steps;
    }
}
