using System.Net.Sockets;
using Npgsql;

namespace Sessions.Api.Storage.Postgres;

/// <summary>What the trouble with a PostgreSQL means to others.</summary>
internal static class PostgresFailure
{
    // By the first characters of its code: the longest that fits counts.
    private static readonly (string Code, string Text, int RetrySeconds)[] States =
    [
        ("08", "PostgreSQL can't be reached.", 1),
        ("25006", "PostgreSQL takes no writes at the moment: it is a replica, or read-only.", 2),
        ("28", "PostgreSQL refuses the role or its password.", 10),
        ("3D000", "The database does not exist in PostgreSQL.", 10),
        ("3F000", "The schema does not exist in PostgreSQL.", 10),
        ("40", "PostgreSQL could not settle several changes at once.", 1),
        ("42501", "PostgreSQL does not permit what is needed.", 10),
        ("42P01", "The tables are missing in PostgreSQL: start a replica that may make them, or run `Sessions.Api migrate`.", 10),
        ("53100", "PostgreSQL has no space left on its disk.", 10),
        ("53200", "PostgreSQL has no memory left.", 5),
        ("53300", "PostgreSQL has no connection left.", 2),
        ("53", "PostgreSQL has not enough resources.", 5),
        ("55P03", "PostgreSQL did not answer in time.", 1),
        ("57014", "PostgreSQL did not answer in time.", 1),
        ("57P", "PostgreSQL is starting, stopping or failing over.", 1),
        ("58", "PostgreSQL has trouble with its files.", 10),
    ];

    /// <summary>Whether nothing of it was done, and it may be done again at once: another transaction was in the way.</summary>
    public static bool MayRetry(Exception e) =>
        e is PostgresException { SqlState: PostgresErrorCodes.SerializationFailure or PostgresErrorCodes.DeadlockDetected };

    /// <summary>The trouble as the caller of a store gets it; <see langword="null"/>: a mistake of ours.</summary>
    public static Exception? Translate(Exception e) => e switch
    {
        PostgresException { SqlState: ['X', 'X', ..] } server =>
            new StoredDataException("a page of the database", "PostgreSQL can't read what it has stored.", server),
        PostgresException { SqlState: PostgresErrorCodes.NumericValueOutOfRange or PostgresErrorCodes.InvalidParameterValue } server =>
            new StoredDataException("a number in the database", "PostgreSQL has stored a number that can't be counted with.", server),
        PostgresException server => Find(server.SqlState) is { Text: not null } state
            ? Unavailable(state.Text, state.RetrySeconds, server) : null,
        NpgsqlException when e.Message.Contains("pool", StringComparison.OrdinalIgnoreCase) =>
            Unavailable("All connections to PostgreSQL are in use.", 1, e),
        NpgsqlException { InnerException: TimeoutException } or TimeoutException =>
            Unavailable("PostgreSQL did not answer in time.", 1, e),
        NpgsqlException or SocketException or IOException => Unavailable("PostgreSQL can't be reached.", 1, e),
        _ => null,
    };

    /// <summary>The same trouble as before.</summary>
    public static StoreUnavailableException AsKnown(StoreUnavailableException e) =>
        new(e.Message, e.RetryAfter, e.InnerException) { WasKnown = true };

    private static StoreUnavailableException Unavailable(string text, int seconds, Exception e) =>
        new(text, TimeSpan.FromSeconds(seconds), e);

    private static (string Code, string Text, int RetrySeconds) Find(string code) =>
        States.Where(state => code.StartsWith(state.Code, StringComparison.Ordinal)).OrderByDescending(state => state.Code.Length)
            .FirstOrDefault();
}
