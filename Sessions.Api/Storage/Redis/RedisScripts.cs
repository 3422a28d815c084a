using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// The scripts, each one atomic step on the keys of one session, one owner, one part of an index or one reservation. They are loaded once
/// per server, and again where a
/// server has forgotten them.
/// </summary>
internal static class RedisScripts
{
    public static readonly RedisScript Open = OnSession("open", withPath: true);
    public static readonly RedisScript Turns = OnSession("turns", withPath: true);
    public static readonly RedisScript Get = OnSession("get");
    public static readonly RedisScript Look = OnSession("look");
    public static readonly RedisScript Commit = OnSession("commit");
    public static readonly RedisScript Fail = OnSession("fail");
    public static readonly RedisScript Edit = OnSession("edit");
    public static readonly RedisScript Renew = OnSession("renew");
    public static readonly RedisScript Release = OnSession("release");
    public static readonly RedisScript Cancel = OnSession("cancel");
    public static readonly RedisScript Lease = OnSession("lease");
    public static readonly RedisScript Create = OnSession("create");
    public static readonly RedisScript Remove = OnSession("remove");
    public static readonly RedisScript Entry = Read("entry");
    public static readonly RedisScript ShardTouch = Read("shard-touch");
    public static readonly RedisScript OwnerTouch = Read("owner-touch");
    public static readonly RedisScript OwnerDoom = Read("owner-doom");
    public static readonly RedisScript OwnerSwap = Read("owner-swap");
    public static readonly RedisScript Drop = Read("drop");
    public static readonly RedisScript Page = Read("page");
    public static readonly RedisScript Reserve = Read("reserve");
    public static readonly RedisScript Unreserve = Read("unreserve");
    public static readonly RedisScript Unkey = Read("unkey");

    private static RedisScript OnSession(string name, bool withPath = false) => new(Text("session") + (withPath
        ? Text("path") : "") + Text(name));

    private static RedisScript Read(string name) => new(Text(name));

    private static string Text(string name)
    {
        using var stream = typeof(RedisScripts).Assembly.GetManifestResourceStream($"redis/{name}.lua")
            ?? throw new InvalidOperationException($"{name}.lua is not embedded.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}

/// <summary>A script.</summary>
/// <param name="text">What it does, in Lua.</param>
internal sealed class RedisScript(string text)
{
    /// <summary>What it does, in Lua.</summary>
    public string Text { get; } = text;

    /// <summary>What servers that have loaded it know it by.</summary>
    [SuppressMessage("Security", "CA5350", Justification = "It names scripts in Redis, and protects nothing.")]
    public byte[] Hash { get; } = SHA1.HashData(Encoding.UTF8.GetBytes(text));
}
