using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace Sessions.Api;

/// <summary>
/// The scripts, each one atomic step on the keys of one session, one index or one reservation. They are loaded once per server, and again where a
/// server has forgotten them.
/// </summary>
internal static class RedisScripts
{
    public static readonly RedisScript Get = OnSession("get");
    public static readonly RedisScript Create = OnSession("create");
    public static readonly RedisScript Remove = OnSession("remove");
    public static readonly RedisScript Metadata = OnSession("metadata");
    public static readonly RedisScript History = OnSession("history");
    public static readonly RedisScript Begin = OnSession("begin");
    public static readonly RedisScript Commit = OnSession("commit");
    public static readonly RedisScript Fail = OnSession("fail");
    public static readonly RedisScript Renew = OnSession("renew");
    public static readonly RedisScript Release = OnSession("release");
    public static readonly RedisScript IndexTouch = Read("index-touch");
    public static readonly RedisScript IndexDrop = Read("index-drop");
    public static readonly RedisScript IndexPage = Read("index-page");
    public static readonly RedisScript Reserve = Read("reserve");
    public static readonly RedisScript Unreserve = Read("unreserve");

    private static RedisScript OnSession(string name) => new(Text("session") + Text(name));

    private static RedisScript Read(string name) => new(Text(name));

    private static string Text(string name)
    {
        using var stream = typeof(RedisScripts).Assembly.GetManifestResourceStream($"{name}.lua")
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
