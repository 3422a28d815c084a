namespace Sessions.Api;

/// <summary>
/// The scripts, each one atomic step on the keys of one session, one index or one reservation. The driver loads them once per server, and again
/// where a server has forgotten them.
/// </summary>
internal static class RedisScripts
{
    public static readonly string Get = OnSession("get");
    public static readonly string Create = OnSession("create");
    public static readonly string Remove = OnSession("remove");
    public static readonly string Metadata = OnSession("metadata");
    public static readonly string History = OnSession("history");
    public static readonly string Begin = OnSession("begin");
    public static readonly string Commit = OnSession("commit");
    public static readonly string Fail = OnSession("fail");
    public static readonly string Renew = OnSession("renew");
    public static readonly string Release = OnSession("release");
    public static readonly string IndexTouch = Read("index-touch");
    public static readonly string IndexMove = Read("index-move");
    public static readonly string IndexDrop = Read("index-drop");
    public static readonly string IndexPage = Read("index-page");
    public static readonly string Reserve = Read("reserve");
    public static readonly string Unreserve = Read("unreserve");

    private static string OnSession(string name) => Read("session") + Read(name);

    private static string Read(string name)
    {
        using var stream = typeof(RedisScripts).Assembly.GetManifestResourceStream($"{name}.lua")
            ?? throw new InvalidOperationException($"{name}.lua is not embedded.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
