using System.Buffers.Text;
using System.Text;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// The names of all keys. Those of one session share its tag, so that a cluster keeps them together and one script may change them; a
/// user's share the user's, those of a part of the
/// index of all sessions that part's.
/// </summary>
/// <param name="prefix">What all names begin with, so that others may use the same Redis.</param>
internal sealed class RedisKeys(string prefix = RedisKeys.DefaultPrefix)
{
    /// <summary>What all names begin with where nothing else is said.</summary>
    public const string DefaultPrefix = "sessions:";

    /// <summary>How many parts the index of all sessions has: enough to spread over a cluster, few enough to ask them all.</summary>
    public const int Shards = 16;

    private const int KeyBytes = 16;

    /// <summary>What all names begin with.</summary>
    public string Prefix => prefix;

    /// <summary>Which layout these keys have: see <see cref="RedisLayout"/>.</summary>
    public RedisKey Layout => $"{prefix}layout";

    /// <summary>What <c>/health</c> writes.</summary>
    public RedisKey Health => $"{prefix}health";

    /// <summary>The session itself: a hash.</summary>
    public RedisKey Session(string id) => $"{prefix}s:{{{id}}}";

    /// <summary>Its turns: a list.</summary>
    public RedisKey Turns(string id) => $"{prefix}s:{{{id}}}:t";

    /// <summary>Where runs of its turns begin, if there are branches: a sorted set.</summary>
    public RedisKey Branches(string id) => $"{prefix}s:{{{id}}}:b";

    /// <summary>The requests it has answered: a hash of idempotency keys.</summary>
    public RedisKey Answered(string id) => $"{prefix}s:{{{id}}}:k";

    /// <summary>Who has a lease on it: a sorted set.</summary>
    public RedisKey Lease(string id) => $"{prefix}s:{{{id}}}:l";

    /// <summary>Who is next.</summary>
    public RedisKey Waiter(string id) => $"{prefix}s:{{{id}}}:w";

    /// <summary>What is said to those who have a lease, or had: a hash.</summary>
    public RedisKey Signals(string id) => $"{prefix}s:{{{id}}}:m";

    /// <summary>The keys in the order in which scripts on a session take them.</summary>
    public RedisKey[] OfSession(string id) => [Session(id), Turns(id), Branches(id), Answered(id), Lease(id), Waiter(id), Signals(id)];

    /// <summary>Turns, branches and answered requests of a session that is being made.</summary>
    public RedisKey[] Copies(string id, string token) => [$"{Turns(id)}:{token}", $"{Branches(id)}:{token}", $"{Answered(id)}:{token}"];

    /// <summary>Leads from a session's key to its id.</summary>
    public RedisKey IdOf(Guid key) => $"{prefix}i:{{{key:N}}}";

    /// <summary>The session id that an idempotency key is tied to.</summary>
    public RedisKey Reservation(Guid key) => $"{prefix}r:{{{key:N}}}";

    /// <summary>An owner's sessions of a kind by activity: a sorted set.</summary>
    public RedisKey OwnerIndex(string? userId, SessionKind kind) => OfOwner(userId, Letter(kind));

    /// <summary>
    /// How many bytes an owner's chains take, one by one and together; of nobody's there is another for what is no chain: a hash.
    /// </summary>
    public RedisKey OwnerBytes(string? userId, SessionKind kind) => OfOwner(userId, kind == SessionKind.Chain ? "cb" : "sb");

    /// <summary>An owner's sessions that have to go, as they are too many: a sorted set.</summary>
    public RedisKey OwnerDoomed(string? userId, SessionKind kind) => OfOwner(userId, Letter(kind) + "x");

    /// <summary>An owner's sessions that are about to be made: a sorted set.</summary>
    public RedisKey OwnerEntries(string? userId) => OfOwner(userId, "p");

    /// <summary>Says that an owner is being erased.</summary>
    public RedisKey OwnerErasing(string userId) => OfOwner(userId, "e");

    /// <summary>Sessions of all of one kind by activity: a sorted set.</summary>
    public RedisKey ShardIndex(int shard, SessionKind kind) => OfShard(shard, Letter(kind));

    /// <summary>The same by expiry.</summary>
    public RedisKey ShardExpiry(int shard, SessionKind kind) => OfShard(shard, Letter(kind) + "x");

    /// <summary>Sessions that are about to be made.</summary>
    public RedisKey ShardEntries(int shard) => OfShard(shard, "p");

    /// <summary>The part of the index of all sessions in which a session is.</summary>
    public static int ShardOf(string id)
    {
        // FNV-1a: the same in every process, which a string's own hash code is not.
        var hash = 2166136261;
        foreach (var c in id)
        {
            hash = (hash ^ c) * 16777619;
        }

        return (int)(hash % Shards);
    }

    /// <summary>A key or a token as entries of indexes have it: 22 characters.</summary>
    public static string Text(Guid key) => Base64Url.EncodeToString(key.ToByteArray());

    /// <summary>
    /// An entry of an index: a session's id and key, or where it is about to be made, the token of its lease. Keys are not given twice, so
    /// an entry that is removed late removes no other session's.
    /// As a space comes before all characters of ids, entries with the same score stand in the order of the ids.
    /// </summary>
    public static string Entry(string id, string key) => $"{id} {key}";

    /// <inheritdoc cref="Entry(string, string)"/>
    public static string Entry(string id, Guid key) => Entry(id, Text(key));

    /// <summary>Reads an entry.</summary>
    /// <returns>Whether it is one: others may write there too.</returns>
    public static bool TryRead(string? entry, out string id, out Guid key)
    {
        (id, key) = ("", default);
        var space = entry?.LastIndexOf(' ') ?? -1;
        Span<byte> bytes = stackalloc byte[KeyBytes];
        if (space < 1 || !Base64Url.IsValid(entry.AsSpan(space + 1), out var length) || length != KeyBytes
            || !Base64Url.TryDecodeFromChars(entry.AsSpan(space + 1), bytes, out _))
        {
            return false;
        }

        (id, key) = (entry![..space], new Guid(bytes));
        return true;
    }

    private static string Letter(SessionKind kind) => kind switch
    {
        SessionKind.Session => "s",
        SessionKind.Conversation => "v",
        _ => "c",
    };

    // A tag ends at the first brace, and an empty one is none: what a user is called must not matter.
    private RedisKey OfOwner(string? userId, string what) => userId is null
        ? $"{prefix}n:{{nobody}}:{what}"
        : $"{prefix}u:{{{new StringBuilder(userId).Replace("%", "%25").Replace("}", "%7D")}}}:{what}";

    private RedisKey OfShard(int shard, string what) => $"{prefix}a:{{{shard}}}:{what}";
}
