using System.Globalization;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// Which form the data in a Redis has. It is written down there as two numbers: that of the newest version that has written, and the
/// oldest that reads all of it. So replicas can be replaced one after
/// the other as long as a new version writes nothing that the one before does not read; where it must, it asks for a stop of all, and says
/// so here.
/// </summary>
internal static class RedisLayout
{
    /// <summary>What this version writes. 1 was the one without a prefix.</summary>
    public const int Current = 2;

    /// <summary>The oldest version that reads what this one writes.</summary>
    public const int OldestReader = 2;

    private const string Separator = "/";

    /// <summary>Finds out whether this version may use what is there, and marks it.</summary>
    /// <exception cref="SettingsException">It may not.</exception>
    public static void Prepare(IDatabase database, RedisKeys keys)
    {
        while (true)
        {
            var found = database.StringGet(keys.Layout);
            if (found.IsNull)
            {
                RefuseFirstLayout(database);
                if (database.StringSet(keys.Layout, Text(Current, OldestReader), when: When.NotExists))
                {
                    return;
                }

                continue;
            }

            var (newest, oldestReader) = Read(found);
            if (oldestReader > Current)
            {
                throw new SettingsException(
                    $"sessions.storage_type: the sessions in this Redis were written by a later version (layout {newest}), "
                    + $"which this one can't read (layout {Current}); start that version.");
            }

            if (newest >= Current)
            {
                return;
            }

            // One that starts at the same moment may be newer still.
            var transaction = database.CreateTransaction();
            transaction.AddCondition(Condition.StringEqual(keys.Layout, found));
            _ = transaction.StringSetAsync(keys.Layout, Text(Current, OldestReader));
            if (transaction.Execute())
            {
                return;
            }
        }
    }

    // Every session of it is in one of these, and they are what nobody else has under such a name.
    private static void RefuseFirstLayout(IDatabase database)
    {
        for (var shard = 0; shard < RedisKeys.Shards; shard++)
        {
            if (database.KeyType($"a:{{{shard}}}") == RedisType.SortedSet)
            {
                throw new SettingsException(
                    "sessions.storage_type: this Redis holds sessions in the layout of an earlier version; "
                    + "export them with that version, and import them with this one into an empty Redis.");
            }
        }
    }

    private static string Text(int newest, int oldestReader) =>
        string.Create(CultureInfo.InvariantCulture, $"{newest}{Separator}{oldestReader}");

    private static (int Newest, int OldestReader) Read(RedisValue value) =>
        ((string?)value)?.Split(Separator) is [var newest, var oldest]
        && int.TryParse(newest, NumberStyles.None, CultureInfo.InvariantCulture, out var written)
        && int.TryParse(oldest, NumberStyles.None, CultureInfo.InvariantCulture, out var reader)
            ? (written, reader)
            : throw new SettingsException("sessions.storage_type: which layout the sessions in this Redis have can't be read; "
                + "another program uses the same names.");
}
