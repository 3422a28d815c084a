using Microsoft.Extensions.Logging.Abstractions;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What the tests of the SQLite store have in common.</summary>
internal static class SqliteTests
{
    public static SqliteSessionStore Open(string path, SessionSettings? settings = null, TimeProvider? time = null) =>
        new(SqliteFile.Prepare(path), settings ?? new SessionSettings { MaxSessionsPerUser = 0 }, time ?? TimeProvider.System, TestStore.NewMetrics(),
            NullLogger<SqliteSessionStore>.Instance);
}
