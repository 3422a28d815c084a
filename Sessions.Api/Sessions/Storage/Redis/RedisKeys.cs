using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>
/// The names of all keys. Those of one session share its tag, so that a cluster keeps them together and one script may change them; a user's
/// share the user's.
/// </summary>
internal static class RedisKeys
{
    /// <summary>How many indexes of all sessions there are: enough to spread over a cluster, few enough to ask them all.</summary>
    public const int Shards = 16;

    /// <summary>What <c>/health</c> writes.</summary>
    public static readonly RedisKey Health = "health";

    /// <summary>The session itself: a hash.</summary>
    public static RedisKey Session(string id) => $"s:{{{id}}}";

    /// <summary>Its turns: a list.</summary>
    public static RedisKey Turns(string id) => $"s:{{{id}}}:t";

    /// <summary>The requests it has answered: a hash of idempotency keys.</summary>
    public static RedisKey Answered(string id) => $"s:{{{id}}}:k";

    /// <summary>The keys in the order in which scripts on a session take them.</summary>
    public static RedisKey[] OfSession(string id) => [Session(id), Turns(id), Answered(id), $"s:{{{id}}}:l", $"s:{{{id}}}:w"];

    /// <summary>Ids of a user's sessions by activity, and those of them that are one too many and about to be removed.</summary>
    public static RedisKey[] OfUser(string userId) => [$"u:{{{Tag(userId)}}}", $"u:{{{Tag(userId)}}}:x"];

    /// <summary>Ids of all sessions by activity, in parts.</summary>
    public static RedisKey Shard(int number) => $"a:{{{number}}}";

    /// <summary>The part in which a session is.</summary>
    public static RedisKey ShardOf(string id)
    {
        // FNV-1a: the same in every process, which a string's own hash code is not.
        var hash = 2166136261;
        foreach (var c in id)
        {
            hash = (hash ^ c) * 16777619;
        }

        return Shard((int)(hash % Shards));
    }

    /// <summary>The session id that an idempotency key is tied to.</summary>
    public static RedisKey Reservation(Guid key) => $"r:{{{key:N}}}";

    /// <summary>A user's key for encryption; nobody's where the user is empty.</summary>
    public static RedisKey UserKey(string userId) => $"k:{{{Tag(userId)}}}";

    /// <summary>All users' keys.</summary>
    public static RedisValue UserKeys => "k:{*}";

    /// <summary>Whose key it is.</summary>
    public static string? HolderOf(RedisKey key) => (string?)key is ['k', ':', '{', .. var tag, '}'] ? tag.Replace("%7D", "}", StringComparison.Ordinal).Replace("%25", "%", StringComparison.Ordinal) : null;

    // A tag ends at the first brace, and an empty one is none: what a user is called must not matter.
    private static string Tag(string userId) => userId.Replace("%", "%25", StringComparison.Ordinal).Replace("}", "%7D", StringComparison.Ordinal);
}
