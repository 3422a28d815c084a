using Npgsql;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Storage.Postgres;

/// <summary>
/// The connections to PostgreSQL: tried at the start, and from then on kept by the driver, whatever becomes of the server.
/// </summary>
internal static class PostgresConnection
{
    private const string NotWithout = "sessions.storage_type: postgres does not start without it.";

    /// <summary>Connects, brings the tables to this version, and registers the connections.</summary>
    /// <exception cref="SettingsException">
    /// There is no connection string, it is none, nothing answers there, or the tables are of a later version.
    /// </exception>
    public static void AddPostgresConnection(this IHostApplicationBuilder builder)
    {
        var database = Open(PostgresConnectionString.Read(builder.Configuration));
        builder.Services.AddSingleton(_ => database);
    }

    /// <summary>The database, with tables of this version.</summary>
    /// <exception cref="SettingsException">It can't be had.</exception>
    public static PostgresDatabase Open(NpgsqlConnectionStringBuilder settings)
    {
        var where = PostgresConnectionString.Describe(settings);
        PostgresDatabase? database = null;
        try
        {
            database = PostgresDatabase.Open(settings.ConnectionString);
            PostgresSchema.MigrateAsync(database.Source, CancellationToken.None).GetAwaiter().GetResult();
            return database;
        }
        catch (Exception e) when (Sentence(e) is { } sentence)
        {
            database?.Dispose();
            throw new SettingsException($"{PostgresConnectionString.Key}: PostgreSQL at {where}: {sentence}");
        }

        static string? Sentence(Exception e) =>
            PostgresFailure.Translate(e) is { } trouble ? $"{trouble.Message.TrimEnd('.')}; {NotWithout}" : e switch
            {
                PostgresException server => $"it refuses to make the tables: {server.MessageText}.",
                InvalidOperationException or ArgumentException or NotSupportedException => e.Message,
                _ => null,
            };
    }
}
