using System.ComponentModel.DataAnnotations;

namespace Sessions.ServiceDefaults;

/// <summary>The <c>sessions:</c> section of <c>config.yaml</c>, which the API and the janitor both read.</summary>
public sealed class SessionSettings : IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "sessions";

    /// <summary>The header that carries <see cref="CleanupKey"/>.</summary>
    public const string CleanupKeyHeader = "X-Cleanup-Key";

    /// <summary>Where sessions are kept.</summary>
    public StorageType StorageType { get; set; } = StorageType.Memory;

    /// <summary>The SQLite file. A relative path starts from the folder of <c>config.yaml</c>.</summary>
    public string DbPath { get; set; } = "data/sessions.db";

    /// <summary>What stands in front of the SQLite file to spare it from being read.</summary>
    public CacheType Cache { get; set; } = CacheType.None;

    /// <summary>An inactive session expires after this many hours; every turn starts the time anew.</summary>
    [Range(1e-5, 87600)]
    public double TimeoutHours { get; set; } = 24;

    /// <summary>How often expired sessions are removed, in minutes.</summary>
    [Range(1e-3, 35791)]
    public double CleanupIntervalMinutes { get; set; } = 60;

    /// <summary>How many live sessions one user may have; the least recently active one makes room. 0: no limit.</summary>
    [Range(0, 1_000_000)]
    public int MaxSessionsPerUser { get; set; } = 10;

    /// <summary>How many live conversations made under <c>/v1</c> one user may have; the least recently active one makes room. 0: no
    /// limit.</summary>
    [Range(0, 1_000_000)]
    public int MaxConversationsPerUser { get; set; } = 1000;

    /// <summary>What a client must send to be let clean up. Without it the route is open, as on a machine of one's own.</summary>
    [Secret]
    public string? CleanupKey { get; set; }

    /// <summary><see cref="TimeoutHours"/> as a time span.</summary>
    public TimeSpan Timeout => TimeSpan.FromHours(TimeoutHours);

    /// <summary><see cref="CleanupIntervalMinutes"/> as a time span.</summary>
    public TimeSpan CleanupInterval => TimeSpan.FromMinutes(CleanupIntervalMinutes);

    /// <inheritdoc/>
    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Cache != CacheType.None && StorageType != StorageType.Sqlite)
        {
            var (cache, type) = (Settings.NameOf(Cache), Settings.NameOf(StorageType));
            yield return new(
                $"'{cache}' is not allowed with sessions.storage_type: {type}; it is for storage_type: sqlite",
                [nameof(Cache), nameof(StorageType)]);
        }

        if (StorageType == StorageType.Sqlite && string.IsNullOrWhiteSpace(DbPath))
        {
            yield return new("must name a file", [nameof(DbPath)]);
        }
    }
}

/// <summary>The stores there are.</summary>
public enum StorageType
{
    /// <summary>In the API's own memory: the fastest; lost when the process ends.</summary>
    Memory,

    /// <summary>One file on a local disk: survives restarts.</summary>
    Sqlite,

    /// <summary>In a Redis, shared by many replicas of the API; the connection string is <c>ConnectionStrings:redis</c>.</summary>
    Redis,

    /// <summary>In a PostgreSQL: durable, shared by many replicas; the connection string is <c>ConnectionStrings:postgres</c>.</summary>
    Postgres,
}

/// <summary>The caches there are.</summary>
public enum CacheType
{
    /// <summary>None.</summary>
    None,

    /// <summary>A Redis; the connection string is <c>ConnectionStrings:redis</c>.</summary>
    Redis,
}
